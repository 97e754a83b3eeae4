-- Book calls of a model in the buckets of a provider's projects, by the database's clock, most room first.
-- $1 provider  $2 model  $3 calls wanted in all  $4 projects  $5 calls wanted of each at the most
-- $6 seconds that a call takes up in each (null: no such limit)  $7 seconds that its tokens do (null: no such limit)
-- $8 seconds ahead that may be booked  $9 seconds that calls of each started late, and that are lost
-- Returns for each project the calls granted, seconds until the first of them may start (the others follow $6 apart),
-- and seconds until more could be booked. A row that is missing had no clock.
-- Each bucket is a clock: a call moves calls_until on by its seconds, and may start where it then stands. Booking ahead
-- keeps the calls of all workers evenly apart however late a worker looks or claims. Tokens are known only afterwards,
-- so one call may start whenever their clock is not ahead, and what it used beyond the estimate is a debt.
with asked as (
    select * from unnest($4::text[], $5::int[], $6::float8[], $7::float8[], $9::float8[])
        as u (project, most, call, token, late)
), locked as materialized (
    select p.project, p.calls_until, p.tokens_until from pace p
    where p.provider = $1 and p.model = $2 and p.project = any ($4)
    order by p.project for no key update
), timed as materialized ( -- the clock is read under the lock: by now() a transaction that waited would be late
    select l.*, extract(epoch from clock_timestamp())::float8 as at from locked l
), clocks as (
    select a.*, t.at, greatest(t.calls_until, t.at - a.call) + a.late as calls_from,
        greatest(t.tokens_until, t.at) as tokens_from,
        case
            when b.paused_until = 'infinity' then 3600
            else greatest(0, extract(epoch from b.paused_until)::float8 - t.at)
        end as paused
    from timed t
    join asked a using (project)
    left join bucket b on b.provider = $1 and b.project = t.project and b.model = $2
), rooms as (
    select c.*, least(most, free)::int as room from (
        select *, case when paused > 0 then 0 else least(
            1e9,
            case when call is not null then greatest(0, floor((at + $8::float8 - calls_from) / call + 0.001)) end,
            case when token is not null then greatest(0, 1 + floor((at + $8::float8 - tokens_from) / token)) end
        ) end as free from clocks
    ) c
), granted as materialized (
    select r.*, least(room, greatest(0, $3::int - coalesce(sum(room) over (
        order by free desc, project rows between unbounded preceding and 1 preceding
    ), 0)))::int as granted
    from rooms r
), taken as (
    update pace p
    set calls_until = coalesce(g.calls_from + g.granted * g.call, p.calls_until),
        tokens_until = coalesce(g.tokens_from + g.granted * g.token, p.tokens_until)
    from granted g
    where p.provider = $1 and p.model = $2 and p.project = g.project and (g.granted > 0 or g.late > 0)
)
select project, granted, coalesce(greatest(0, calls_from + call - at), 0) as first,
    case when paused > 0 then paused else greatest(
        0, calls_from + (granted + 1) * call - at - $8::float8, tokens_from + granted * token - at - $8::float8
    ) end as seconds
from granted
