-- $1 login
select id, login, secret from account where login = $1
