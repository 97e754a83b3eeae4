-- Webhooks are of final tasks, and every lease of one is of a process that has one.
-- $1 beyond this id  $2 how many to look at  $3 the live function. Returns the last one looked at, whether there may be
-- more, and what is wrong.
with part as materialized (
    select * from delivery where id > $1 order by id limit $2
), seen as (
    select d.id, d.task_id, d.account_id, case
            when t.id is null and to_regclass('task_' || to_char(d.day, 'YYYYMMDD')) is not null then 'I10: a webhook, and no task'
            when t.state = 0 then 'I10: a webhook, and not final'
            when t.function = $3 then 'I10: a webhook, although it is live'
            when t.account_id <> d.account_id then 'I10: a webhook of another account'
            when a.seq <> d.seq then 'I10: its webhook would list it where collecting will not find it'
            when d.state = 2 and not exists (select from worker w where w.token = d.token)
                then 'I11: its webhook is leased to nobody'
        end as fault
    from part d
    left join lateral (select t.* from task t where t.day = d.day and t.id = d.task_id limit 1) t on true
    left join lateral (select a.seq from answer a where a.day = d.day and a.id = d.task_id limit 1) a on true
)
select (select max(id) from part) as last, (select count(*) = $2 from part) as more,
    array (
        select format('%s: task %s of account %s', fault, task_id, account_id) from seen where fault is not null order by id
    ) as faults
