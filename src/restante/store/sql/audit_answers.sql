-- A final task's answer is kept, and its request beside it, until their day is dropped; both are gone if its account was
-- erased. Live tasks have neither. One row for each task that breaks this.
-- $1 day  $2, $3 a part of it: beyond the one id, up to the other (audit_part.sql)  $4 the live function
select * from (
    select coalesce(t.id, a.id) as id, coalesce(t.account_id, a.account_id) as account_id, case
            when t.id is null then 'I8: an answer, and no task'
            when t.function = $4 then case when num_nonnulls(a.id, r.id) > 0 then 'I8: kept, although it is live' end
            when t.state = 0 and a.id is not null then 'I8: answered, and not final'
            when t.state = 0 and r.id is null then 'I6: unfinished, and what it asks is lost'
            when t.state = 0 then null
            when (a.id is null) <> (r.id is null) then 'I8: its answer or its request is lost'
            when (a.account_id, a.code, a.body is not null) is distinct from (t.account_id, t.code, t.state = 1)
                and a.id is not null then 'I8: its answer is another'
        end as fault
    from (select * from task where day = $1 and id > $2 and id <= $3) t
    full join (select * from answer where day = $1 and id > $2 and id <= $3) a on a.id = t.id
    left join lateral (select r.id from task_request r where r.day = $1 and r.id = t.id limit 1) r on true
) f
where fault is not null and to_regclass('answer_' || to_char($1::date, 'YYYYMMDD')) is not null
    and to_regclass('task_request_' || to_char($1::date, 'YYYYMMDD')) is not null
