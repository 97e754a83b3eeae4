-- $1 login
select id, login, balance, held, spent, funded, credit_limit, created_at, paused from account where login = $1
