-- All that is known of one task but its deliveries. $1 day  $2 id  $3 account  $4 platform
select t.function, t.state, t.code, t.held, t.charged, t.attempts, t.posted_at, t.settled_at, t.tag, t.batch_saved,
    l.provider, l.model, r.request, a.message, a.body, a.trail, c.login, (c.balance < -c.credit_limit) is true as owes,
    x.made_at as resolved_at, raw.price_date, raw.id is not null as has_raw,
    q.state as queue_state, q.run_at, q.tries, q.wasted, q.lost, q.batch, w.name as worker,
    y.listed_at, b.name as batch_name, b.state as batch_state, b.asked_at as batch_asked_at
from task t
join account c on c.id = t.account_id
left join lane l on l.id = t.lane
left join task_request r on r.day = $1 and r.id = $2
left join answer a on a.day = $1 and a.id = $2
left join answer_raw raw on raw.day = $1 and raw.id = $2
left join transfer x on x.hold_day = $1 and x.task_id = $2 and x.kind = 3
left join queue q on q.id = $2
left join worker w on w.token = q.token
left join batch b on b.id = q.batch
left join ready y on y.account_id = $3 and y.platform = $4 and y.seq = a.seq
where t.day = $1 and t.id = $2 and t.account_id = $3
