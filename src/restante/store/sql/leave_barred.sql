-- Tasks of accounts that came to owe too much or were paused since gather.sql took them leave their batch before it is
-- asked for; claimed, they are parked as all of theirs. $1 batch  $2 the token of the worker that looks after it
with gone as (
    update queue q set state = 0, run_at = null, batch = null
    from account a
    where q.state = 1 and q.batch = $1 and a.id = q.account_id and (a.balance < -a.credit_limit or a.paused)
        and exists (select from batch b where b.id = $1 and b.token = $2)
    returning q.id
), counted as (
    update batch set fell_back = fell_back + (select count(*) from gone) where id = $1
)
select count(*)::int from gone
