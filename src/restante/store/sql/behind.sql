-- How many seconds old what a standby shows is; null on a primary. Nothing is replayed while nothing is written, so that
-- the last replayed transaction tells an age only where something is not replayed, or nothing comes in. What the primary has
-- (latest_end_lsn) only a role with pg_read_all_stats is told; others see what was received.
select case
    when not pg_is_in_recovery() then null
    when pg_last_wal_replay_lsn() >= (
        select coalesce(latest_end_lsn, pg_last_wal_receive_lsn()) from pg_stat_wal_receiver
    ) then 0.0
    else greatest(0.0, extract(epoch from clock_timestamp()
        - coalesce(pg_last_xact_replay_timestamp(), (select checkpoint_time from pg_control_checkpoint()))))
    end::float8 as behind
