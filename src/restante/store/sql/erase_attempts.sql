-- Forget what an account's receivers replied, and the URLs they were asked at, on one day: a batch of the day, since no
-- index has the successful ones by account. $1 day  $2 account  $3, $4 delivery and time beyond which to look
-- $5 how many attempts to look at. Returns how many those were, and the last one's delivery and time.
-- By account, since an attempt may outlive its delivery. What still has one is of a task posted since the erase began.
with looked as materialized (
    select delivery_id, made_at, account_id from attempt
    where day = $1 and (delivery_id, made_at) > ($3::bigint, $4::timestamptz)
    order by delivery_id, made_at limit $5
), gone as (
    delete from attempt a using looked l
    where a.day = $1 and a.delivery_id = l.delivery_id and a.made_at = l.made_at and l.account_id = $2
        and not exists (select from delivery d where d.id = l.delivery_id)
)
select count(*)::int as looked, max(delivery_id) as delivery,
    (array_agg(made_at order by delivery_id desc, made_at desc))[1] as made_at
from looked
