-- Fetch answers posted on one day and take them off tasks_ready.
-- $1 day  $2 accounts  $3 ids  $4 platform
-- Where an account owes more than its credit limit the answer is withheld: no body leaves, and it stays listed.
with got as materialized (
    select a.*, (c.balance < -c.credit_limit) is true as withheld, r.request
    from unnest($2::int[], $3::uuid[]) as w (account_id, id)
    cross join lateral (
        select a.id, a.account_id, a.seq, a.code, a.message, a.body from answer a
        where a.day = $1 and a.id = w.id and a.account_id = w.account_id limit 1
    ) a
    cross join lateral (select balance, credit_limit from account c where c.id = w.account_id limit 1) c
    left join lateral (select request from task_request r where r.day = $1 and r.id = w.id limit 1) r on true
), gone as (
    delete from ready r where r.ctid = any (array (
        select x.ctid from got g cross join lateral (
            select r.ctid from ready r
            where not g.withheld and r.account_id = g.account_id and r.platform = $4 and r.seq = g.seq
            limit 1 for update skip locked
        ) x
    ))
)
select id, code, message, withheld, request, case when not withheld then body end as body from got
