-- A final task has exactly one resolution, which returns its hold and takes its charge; an unfinished one has none, and a
-- queue row. A failed one is free. One row for each task that breaks this, with what is wrong first.
-- $1 day  $2, $3 a part of it: beyond the one id, up to the other (audit_part.sql)  $4 the code of an answered task
-- Whether final tasks are in the queue is for audit_queue.sql, so that this looks for unfinished ones only.
select * from (
    select coalesce(t.id, x.task_id) as id, coalesce(t.account_id, x.account_id) as account_id, t.state, t.held, t.charged,
        x.held as resolved_held, x.spent as resolved_spent, q.id is not null as queued, case
            when t.id is null then 'I3: resolved, and no task'
            when t.state = 0 and x.task_id is not null then 'I3: resolved, and not final'
            when t.state = 0 and q.id is null then 'I6: neither final nor in the queue'
            when t.state = 0 and (q.held, q.account_id) is distinct from (t.held, t.account_id) then 'I6: queued as another'
            when t.state <> 0 and x.task_id is null then 'I3: final, and not resolved'
            when t.state <> 0 and (x.held, x.spent, x.account_id) is distinct from (-t.held, t.charged, t.account_id)
                then 'I3: resolved as another'
            when t.state = 2 and t.charged <> 0 then 'I4: failed, and charged'
            when t.state <> 0 and (t.state = 1) <> (t.code = $4) then 'I7: its state and its code differ'
        end as fault
    from (select * from task where day = $1 and id > $2 and id <= $3) t
    full join (
        select * from transfer where hold_day = $1 and task_id > $2 and task_id <= $3 and kind = 3
    ) x on x.task_id = t.id
    left join lateral (
        select q.id, q.held, q.account_id from queue q where t.state = 0 and q.id = t.id limit 1
    ) q on true
) f
where fault is not null
