select id, login, balance, held, spent, funded, credit_limit, created_at, paused from account order by id
