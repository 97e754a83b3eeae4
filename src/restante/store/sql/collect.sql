-- Fetch answers posted on one day and take them off tasks_ready.
-- $1 day  $2 accounts  $3 ids  $4 platform
-- The arrays are scalar subqueries so that it is not planned anew each time (see settle).
-- It need not wait for the disk: what is lost with a server that crashes in the next moment is that an answer was
-- fetched, and then it is listed again.
-- Where an account owes more than its credit limit the answer is withheld: no body leaves, and it stays listed.
-- The postback of a fetched task, if it has one, is told, once: its failures list the task no more. Deliveries are
-- locked before listings, as record_attempts does. `relisted`: that one's first failure may have come in between, and
-- its listing is too new for this statement to see.
with got as materialized (
    select a.*, (c.balance < -c.credit_limit) is true as withheld, r.request
    from unnest((select $2::int[]), (select $3::uuid[])) as w (account_id, id)
    cross join lateral (
        select a.id, a.account_id, a.seq, a.code, a.message, a.body from answer a
        where a.day = $1 and a.id = w.id and a.account_id = w.account_id limit 1
    ) a
    cross join lateral (select balance, credit_limit from account c where c.id = w.account_id limit 1) c
    left join lateral (select request from task_request r where r.day = $1 and r.id = w.id limit 1) r on true
), told as materialized (
    update delivery d set collected = true
    where d.id = any (array (
        select x.id from got g cross join lateral (
            select d.id from delivery d
            where not g.withheld and d.task_id = g.id and d.kind = 2 and not d.collected limit 1
        ) x order by x.id
    ))
    returning d.task_id, d.attempts
), gone as (
    delete from ready r where r.ctid = any (array (
        select x.ctid from got g cross join lateral (
            select r.ctid from ready r
            where not g.withheld and r.account_id = g.account_id and r.platform = $4 and r.seq = g.seq
            limit 1 for update skip locked
        ) x
        where (select count(*) from told) >= 0
    ))
    returning r.id
)
select g.id, g.code, g.message, g.withheld, g.request, case when not g.withheld then g.body end as body,
    g.account_id, g.seq,
    g.id in (select task_id from told where attempts > 0) and g.id not in (select id from gone) as relisted
from got g, (select set_config('synchronous_commit', 'off', true) offset 0) hurry
