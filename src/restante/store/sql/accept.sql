-- Accept the tasks of one POST: the hold, the tasks, their requests and their queue rows, or nothing.
-- $1 account  $2 day  $3 now  $4 ids  $5 lanes  $6 holds  $7 tags  $8 requests  $9 platform  $10 function
-- $11 what the account may spend a day  $12 what all accounts may; then under lock_spending (0: without limit)
-- The arrays are scalar subqueries so that it is not planned anew each time (see settle).
-- $13 seconds that a task may gather for a batch; null: it is ready at once
-- Returns how many, from the first on, the balance and the caps cover, and whether it was a cap that stopped the next.
-- The account's row lock makes that exact: under it the update sees the newest balance although this statement's
-- snapshot may be older. An account whose today is later than this POST's was posted to by a node whose clock is ahead:
-- what it spent on this day is not known any more, so that a cap covers nothing.
with payer as materialized (
    select balance, credit_limit, today, today_posted + today_live as spent from account where id = $1 for no key update
), everybody as materialized (
    select coalesce(sum(today_posted + today_live), 0) as spent from account where $12::bigint > 0 and today >= $2
), room as materialized (
    select p.balance + p.credit_limit as funds, least(
        case when $11::bigint > 0 then
            $11::bigint - case when p.today > $2 then $11::bigint when p.today = $2 then p.spent else 0 end
        end,
        case when $12::bigint > 0 then $12::bigint - (select spent from everybody) end
    ) as cap
    from payer p
), item as (
    select u.*, sum(u.held) over (order by u.ord) as running
    from unnest((select $4::uuid[]), (select $5::int[]), (select $6::bigint[]), (select $7::text[]),
        (select $8::bytea[]), (select $13::float8[])) with ordinality as u (id, lane, held, tag, request, gather, ord)
), covered as materialized (
    select i.* from item i, room r
    where (r.funds is null or i.running <= r.funds) and (r.cap is null or i.running <= r.cap)
), total as (
    select sum(held)::bigint as held, (array_agg(id order by ord))[1] as first from covered having count(*) > 0
), hold as (
    insert into transfer (hold_day, task_id, kind, account_id, balance, held, spent, funded, made_at)
    select $2, first, 2, $1, -held, held, 0, 0, $3 from total
), paid as (
    update account a
    set balance = a.balance - t.held, held = a.held + t.held,
        today = greatest(a.today, $2),
        today_posted = case when a.today > $2 then 0 else t.held end + case when a.today >= $2 then a.today_posted else 0 end,
        today_live = case when a.today >= $2 then a.today_live else 0 end
    from total t where a.id = $1
), asked as (
    select lane, count(*)::int as n from covered group by lane
), turns as (
    insert into turn as t (account_id, lane, next, step)
    select $1, k.lane, coalesce(l.turn, 0) + k.n, k.n from asked k left join lane l on l.id = k.lane
    on conflict (account_id, lane) do update
        set next = greatest(t.next + excluded.step, excluded.next), step = excluded.step
    returning lane, next, step
), tasks as (
    insert into task (day, id, account_id, platform, function, state, held, posted_at, tag, lane)
    select $2, id, $1, $9, $10, 0, held, $3, tag, lane from covered
), requests as (
    insert into task_request (day, id, request) select $2, id, request from covered
), queued as (
    insert into queue (id, day, account_id, lane, turn, state, held, posted_at, tag, run_at, batch)
    select c.id, $2, $1, c.lane, s.next - s.step + row_number() over (partition by c.lane order by c.ord),
        case when c.gather is null then 0 else 1 end, c.held, $3, c.tag,
        now() + make_interval(secs => c.gather), case when c.gather is not null then 0 end
    from covered c join turns s using (lane)
)
select n as covered, exists (
    select from item i, room r where i.ord = n + 1 and i.running > r.cap
) as capped
from (select count(*)::int as n from covered) c
