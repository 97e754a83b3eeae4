-- For how many seconds the oldest ready task of a provider has been here; null when none is ready.
-- $1 the provider  $2 how many of the oldest unfinished tasks to look at
-- Index look-ups, however many tasks wait: the head of each lane, and the oldest unfinished tasks whatever their state,
-- since a newcomer's turn may stand before that of an older task.
with lanes as materialized (
    select id from lane where provider = $1
), head as (
    select h.posted_at from lanes l
    cross join lateral (
        select q.posted_at from queue q where q.state = 0 and q.lane = l.id order by q.turn, q.id limit 1
    ) h
), oldest as (
    select o.posted_at from (select lane, state, posted_at from queue order by posted_at limit $2) o
    where o.state = 0 and o.lane in (select id from lanes)
)
select extract(epoch from now() - min(posted_at))::float8
from (select posted_at from head union all select posted_at from oldest) as every
