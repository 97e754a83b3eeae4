-- Lease queued tasks, ready or parked, in order to end them. $1 token  $2 how many at the most, and of these only:
-- $3 of these accounts  $4 with these ids  $5 with this tag  $6 posted before (each null: any)
-- $7 of none of these accounts. Live tasks never.
with me as materialized (
    select token from worker where token = $1 for key share
), picked as materialized (
    select q.ctid from queue q
    where q.state in (0, 1) and q.lane <> 0 and exists (select from me)
        and ($3::int[] is null or q.account_id = any ($3))
        and ($4::uuid[] is null or q.id = any ($4))
        and ($5::text is null or q.tag = $5)
        and q.posted_at < coalesce($6::timestamptz, 'infinity')
        and q.account_id <> all ($7::int[])
    order by q.posted_at limit $2 for update skip locked
), mine as (
    update queue q set state = 2, run_at = null, token = $1 where q.ctid = any (array (select ctid from picked))
    returning q.id, q.day
)
select m.id, m.day, r.request
from mine m
left join lateral (select request from task_request r where r.day = m.day and r.id = m.id limit 1) r on true
