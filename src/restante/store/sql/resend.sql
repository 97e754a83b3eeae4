-- Webhooks of tasks go out again, on their schedule from the beginning. $1 account  $2 task ids  $3 bodies of postbacks
-- (null: the task has none). One that is ready or leased needs no second one; a leased one's worker finds out that it
-- begins anew when its attempt is recorded. Locked in the order of record_attempts.
with item as materialized (
    select x.id, u.body from unnest($2::uuid[], $3::bytea[]) as u (task_id, body)
    cross join lateral (
        select d.id from delivery d where d.task_id = u.task_id and d.account_id = $1 order by d.kind limit 2
    ) x
), locked as materialized (
    select d.id from delivery d where d.id = any (array (select id from item)) order by d.id for update
)
update delivery d
set state = case when d.state = 2 then 2 else 0 end, run_at = null, attempts = 0,
    body = case when d.kind = 2 then coalesce(d.body, i.body) end
from item i
where d.id = i.id and d.id = any (array (select id from locked))
returning d.id
