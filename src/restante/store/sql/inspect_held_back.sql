-- What keeps PostgreSQL from tidying up although no session does: prepared transactions older than $1 seconds, and
-- replication slots that keep more than $2 bytes of WAL.
select 'prepared' as kind, gid as name, extract(epoch from now() - prepared)::float8 as amount
from pg_prepared_xacts where database = current_database() and now() - prepared > make_interval(secs => $1)
union all
select 'slot', slot_name::text, kept::float8 from (
    select slot_name, pg_wal_lsn_diff(
        case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, restart_lsn) as kept
    from pg_replication_slots where not active
) s where kept > $2::bigint
