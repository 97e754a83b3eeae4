-- A worker's incarnation begins. $1 token  $2 name  $3 lease in seconds
insert into worker (token, name, expires_at) values ($1, $2, now() + make_interval(secs => $3))
