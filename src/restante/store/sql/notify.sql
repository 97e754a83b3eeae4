-- Wake the workers that listen. $1 channel. A notification alone need not wait for the disk.
select pg_notify($1, ''), set_config('synchronous_commit', 'off', true)
