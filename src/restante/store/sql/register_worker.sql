-- A worker's incarnation begins. $1 token  $2 name  $3 lease in seconds  $4 the provider that it asks
-- $5 whether it claims queued tasks
insert into worker (token, name, expires_at, provider, claims)
values ($1, $2, now() + make_interval(secs => $3), $4, $5)
