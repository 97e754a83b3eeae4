-- Every queue row is of an unfinished task and says the same as it, and every lease is of a process that has one.
-- $1 beyond this id  $2 how many to look at  $3 the live function. Returns the last one looked at, whether there may be
-- more, and what is wrong.
with part as materialized (
    select * from queue where id > $1 order by id limit $2
), seen as (
    select q.id, q.account_id, case
            when t.id is null then 'I6: in the queue, and no task'
            when t.state <> 0 then 'I6: in the queue, and final'
            when (t.account_id, t.held) is distinct from (q.account_id, q.held)
                or (q.lane = 0) <> (t.function = $3) then 'I6: queued as another'
            when q.state = 2 and not exists (select from worker w where w.token = q.token) then 'I11: leased to nobody'
            when q.state <> 1 and q.batch is not null then 'I11: in a batch, and not waiting for it'
        end as fault
    from part q
    left join lateral (select t.* from task t where t.day = q.day and t.id = q.id limit 1) t on true
)
select (select id from part order by id desc limit 1) as last, (select count(*) = $2 from part) as more,
    array (
        select format('%s: task %s of account %s', fault, id, account_id) from seen where fault is not null order by id
    ) as faults
