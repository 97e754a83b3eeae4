-- Lease deliveries to a worker. $1 the worker's token  $2 hosts  $3 accounts  $4 how many at the most of each pair
-- The key share on the worker's row makes reaping wait for this claim (see claim).
-- The arrays are scalar subqueries so that it is not planned anew each time (see settle).
with me as materialized (
    select token from worker where token = $1 for key share
), picked as materialized (
    select x.tid from unnest((select $2::text[]), (select $3::int[]), (select $4::int[])) as w (host, account_id, most)
    cross join lateral (
        select d.ctid as tid from delivery d
        where d.state = 0 and d.host = w.host and d.account_id = w.account_id and exists (select from me)
        order by d.id limit w.most for update skip locked
    ) x
)
update delivery d set state = 2, token = $1
where d.ctid = any (array (select tid from picked))
returning d.id, d.task_id, d.account_id, d.kind, d.host, d.url, d.body, d.attempts
