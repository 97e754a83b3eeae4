-- Wake the workers that listen. $1 channel
select pg_notify($1, '')
