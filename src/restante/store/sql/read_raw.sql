-- What the provider replied to a task of an account. $1 day  $2 id  $3 account
-- Where the account owes more than its credit limit it is withheld, as the answer is.
select case when (c.balance < -c.credit_limit) is true then null else r.body end as body, r.price_date
from answer_raw r join account c on c.id = r.account_id
where r.day = $1 and r.id = $2 and r.account_id = $3
