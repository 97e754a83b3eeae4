-- Only final tasks are listed, at the place that their answer knows, so that collecting finds it; none whose postback
-- was delivered. $1 account  $2 platform  $3 beyond this place  $4 how many to look at  $5 the live function
-- Returns the last place looked at, whether there may be more, and what is wrong. Where the task's day is dropped, or its
-- answer is (an operator may list for longer than answers are kept), there is nothing to compare with.
with part as materialized (
    select *, (posted_at at time zone 'UTC')::date as day from ready
    where (account_id, platform, seq) > ($1, $2::smallint, $3) order by account_id, platform, seq limit $4
), seen as (
    select r.account_id, r.platform, r.seq, r.id, case
            when t.id is null and to_regclass('task_' || to_char(r.day, 'YYYYMMDD')) is not null then 'I9: listed, and no task'
            when t.state = 0 then 'I9: listed, and not final'
            when t.function = $5 then 'I9: listed, although it is live'
            when t.account_id <> r.account_id then 'I9: listed to another account'
            when a.seq <> r.seq then 'I9: listed at a place where collecting will not find it'
            when d.state = 3 then 'I9: listed, although its postback was delivered'
        end as fault
    from part r
    left join lateral (select t.* from task t where t.day = r.day and t.id = r.id limit 1) t on true
    left join lateral (select a.seq from answer a where a.day = r.day and a.id = r.id limit 1) a on true
    left join lateral (select d.state from delivery d where d.task_id = r.id and d.kind = 2 limit 1) d on true
), ended as (
    select account_id, platform, seq from part order by account_id desc, platform desc, seq desc limit 1
)
select (select account_id from ended) as account_id, (select platform from ended) as platform,
    (select seq from ended) as seq, (select count(*) = $4 from part) as more,
    array (
        select format('%s: task %s of account %s', fault, id, account_id) from seen where fault is not null order by seq
    ) as faults
