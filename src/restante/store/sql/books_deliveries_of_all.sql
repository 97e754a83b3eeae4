-- A page of all accounts' webhooks, newest first. $1 below this id (null: from the newest)  $2 states (null: all)
-- $3 whether of them only those that were tried, or only those that were not (null: both)  $4 host (null: all)
-- $5 how many rows to look at  $6 how many to show  $7 attempts since this day
-- Looked at are so many in the order of the key, whatever the filters let through: `last` is where that ended.
with looked as materialized (
    select id, task_id, account_id, kind, host, url, state, run_at, attempts, created_at
    from delivery where $1::bigint is null or id < $1 order by id desc limit $5
), page as (
    select * from looked
    where ($2::smallint[] is null or state = any ($2)) and ($3::boolean is null or (attempts > 0) = $3)
        and ($4::text is null or host = $4)
    order by id desc limit $6
)
select p.*, a.login, t.made_at, t.milliseconds, t.status, t.error,
    (select min(id) from looked) as last, (select count(*) from looked) as looked
from (select 1) one left join page p on true
left join account a on a.id = p.account_id
left join lateral (
    select made_at, milliseconds, status, error from attempt
    where delivery_id = p.id and day >= $7 order by made_at desc limit 1
) t on true
order by p.id desc
