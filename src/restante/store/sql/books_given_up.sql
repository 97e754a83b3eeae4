-- A page of webhooks that were given up, newest first. $1 account (null: all)  $2 below this id (null: from the newest)
-- $3 host (null: all)  $4 how many to show  $5 attempts since this day
-- Account by account along the index: each gives its newest, of which the newest of all are taken.
with recursive owner as (
    (select account_id from delivery where state = 4 and ($1::int is null or account_id = $1) order by account_id limit 1)
    union all
    select n.account_id from owner o
    cross join lateral (
        select d.account_id from delivery d where d.state = 4 and d.account_id > o.account_id and $1::int is null
        order by d.account_id limit 1
    ) n
), page as (
    select d.* from owner o
    cross join lateral (
        select id, task_id, account_id, kind, host, url, state, run_at, attempts, created_at from delivery d
        where d.state = 4 and d.account_id = o.account_id and ($2::bigint is null or d.id < $2)
            and ($3::text is null or d.host = $3)
        order by d.id desc limit $4
    ) d
    order by d.id desc limit $4
)
select p.*, a.login, t.made_at, t.milliseconds, t.status, t.error
from page p
left join account a on a.id = p.account_id
left join lateral (
    select made_at, milliseconds, status, error from attempt
    where delivery_id = p.id and day >= $5 order by made_at desc limit 1
) t on true
order by p.id desc
