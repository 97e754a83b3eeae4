-- $1 login
select id, login, secret, limits::text as limits from account where login = $1
