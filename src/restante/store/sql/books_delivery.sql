-- One webhook. $1 its id  $2 account (null: anybody's)
select d.id, d.task_id, d.account_id, d.kind, d.host, d.url, d.state, d.run_at, d.attempts, d.created_at, a.login,
    d.body, (a.balance < -a.credit_limit) is true as owes
from delivery d left join account a on a.id = d.account_id
where d.id = $1 and ($2::int is null or d.account_id = $2)
