-- The webhooks of one task, and every attempt that is still kept, oldest first. $1 id  $2 account  $3 the task's day
select d.kind, d.url, d.state, d.run_at, d.created_at, d.collected, w.name as worker,
    a.made_at, a.milliseconds, a.status, a.reply, a.error
from delivery d
left join worker w on w.token = d.token
left join attempt a on a.delivery_id = d.id and a.day >= $3
where d.task_id = $1 and d.account_id = $2
order by d.kind, a.made_at
