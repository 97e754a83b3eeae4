-- $1 day. Each final task has exactly one resolution that returns its hold and takes its charge; an unfinished one
-- has none, and a queue row; failed ones are free. One row for each task that breaks this.
select t.id, t.account_id, t.state, t.held, t.charged, x.held as resolved_held, x.spent as resolved_spent,
    q.id is not null as queued
from (select * from task where day = $1) t
full join (select * from transfer where hold_day = $1 and kind = 3) x on x.task_id = t.id
full join (select * from queue where day = $1) q on q.id = t.id
where (case t.state
    when 0 then x.task_id is null and q.id is not null and q.held = t.held and q.account_id = t.account_id
    else x.held = -t.held and x.spent = t.charged and x.account_id = t.account_id and q.id is null
end) is not true
