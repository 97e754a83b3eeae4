-- Wake the workers that listen. $1 channel  $2 what to tell them. A notification alone need not wait for the disk.
select pg_notify($1, $2), set_config('synchronous_commit', 'off', true)
