-- $1 logins
select id, login, secret, limits::text as limits from account where login = any($1::text[])
