-- Sessions that hold an old snapshot or an open transaction, and commits that wait for a standby, longer than $1 and $2
-- seconds. Of other roles' sessions a role sees this only with pg_read_all_stats.
select pid, coalesce(usename, '') as who, coalesce(nullif(application_name, ''), backend_type, '') as program,
    coalesce(state, '') as state, extract(epoch from now() - xact_start)::float8 as seconds, wait_event = 'SyncRep' as waits
from pg_stat_activity
where pid <> pg_backend_pid() and backend_type in ('client backend', 'walsender')
    and (now() - xact_start > make_interval(secs => $1)
        or (wait_event = 'SyncRep' and now() - xact_start > make_interval(secs => $2)))
order by xact_start limit 20
