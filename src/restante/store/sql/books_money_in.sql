-- Top-ups, newest first. $1 account (null: all)  $2 made from  $3 made before
-- $4, $5 time and id of the last row of the page before (null: the first page)  $6 how many
select t.made_at, t.kind, t.task_id, t.balance, t.held, t.spent, t.funded, a.login
from transfer t left join account a on a.id = t.account_id
where t.kind = 1 and t.made_at >= $2 and t.made_at < $3
    and t.hold_day between ($2::timestamptz at time zone 'UTC')::date - 1
        and ($3::timestamptz at time zone 'UTC')::date + 1
    and ($1::int is null or t.account_id = $1)
    and t.made_at <= coalesce($4::timestamptz, 'infinity')
    and ($4::timestamptz is null or (t.made_at, t.task_id) < ($4, $5::uuid))
order by t.made_at desc, t.task_id desc limit $6
