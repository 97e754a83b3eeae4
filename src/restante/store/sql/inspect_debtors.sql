-- Accounts below their credit limit, whose answers are withheld and whose tasks wait. Nano-dollars.
select login, -balance - credit_limit as beyond, (select count(*) from queue q where q.account_id = a.id)::int as tasks
from account a where balance < -credit_limit order by beyond desc
