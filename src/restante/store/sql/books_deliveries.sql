-- A page of an account's webhooks, those of its newest tasks first. $1 account  $2 posted from  $3 posted before
-- $4, $5 time and id of the last task of the page before (null: the first page)  $6 states (null: all)
-- $7 whether of them only those that were tried, or only those that were not (null: both)  $8 host (null: all)
-- $9 how many tasks to look at  $10 how many webhooks to show  $11 attempts since this day
-- A task's two stand together: the page ends with a task, so that it may have one webhook more than was asked for.
with looked as materialized (
    select t.id, t.posted_at from account_tasks($1, $2, $3, true, 0, $9) t
    where $4::timestamptz is null or (t.posted_at, t.id) < ($4, $5::uuid)
), found as (
    select d.id, d.task_id, d.account_id, d.kind, d.host, d.url, d.state, d.run_at, d.attempts, d.created_at,
        l.posted_at
    from looked l
    cross join lateral (select * from delivery w where w.task_id = l.id order by w.kind limit 2) d
    where ($6::smallint[] is null or d.state = any ($6)) and ($7::boolean is null or (d.attempts > 0) = $7)
        and ($8::text is null or d.host = $8)
), page as (
    select * from found order by posted_at desc, task_id desc fetch first $10 rows with ties
)
select p.*, null::text as login, t.made_at, t.milliseconds, t.status, t.error, e.posted_at as last_at, e.id as last_id,
    (select count(*) from looked) as looked
from (select 1) one left join page p on true
left join (select posted_at, id from looked order by posted_at, id limit 1) e on true
left join lateral (
    select made_at, milliseconds, status, error from attempt
    where delivery_id = p.id and day >= $11 order by made_at desc limit 1
) t on true
order by p.posted_at desc, p.task_id desc, p.kind
