-- A task without an answer: is it running, queued, or was it a live one?
-- $1 day  $2 id  $3 account
select t.function, q.state as queue_state, r.request
from task t
left join queue q on q.id = t.id
left join task_request r on r.day = $1 and r.id = t.id
where t.day = $1 and t.id = $2 and t.account_id = $3
