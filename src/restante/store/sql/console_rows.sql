-- What a list says of its tasks of one day beyond their own rows. $1 day  $2 ids  $3 accounts
select u.id, r.request, q.state as queue_state, a.login
from unnest($2::uuid[], $3::int[]) as u (id, account_id)
left join lateral (select request from task_request r where r.day = $1 and r.id = u.id limit 1) r on true
left join lateral (select state from queue q where q.id = u.id limit 1) q on true
left join account a on a.id = u.account_id
