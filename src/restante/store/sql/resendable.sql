-- Tasks whose webhooks are to be sent again, and what they would say. $1 day  $2 account  $3 ids
select t.id, q.state as queue_state, q.id is not null as queued, r.request, a.code, a.message, a.body
from unnest($3::uuid[]) as w (id)
cross join lateral (select t.id from task t where t.day = $1 and t.id = w.id and t.account_id = $2 limit 1) t
left join lateral (select q.id, q.state from queue q where q.id = w.id limit 1) q on true
left join lateral (select r.request from task_request r where r.day = $1 and r.id = w.id limit 1) r on true
left join lateral (select a.code, a.message, a.body from answer a where a.day = $1 and a.id = w.id limit 1) a on true
