-- The server as our role's sessions see it: settings that promises rest on (null: this version has no such setting), how
-- many connections it has of how many, and its clock.
select current_setting('server_version') as version, current_setting('server_version_num')::int / 10000 as major,
    current_setting('server_encoding') as encoding, pg_is_in_recovery() as standby,
    current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
    current_setting('synchronous_commit') as synchronous_commit, current_setting('autovacuum') as autovacuum,
    current_setting('data_checksums') as data_checksums, current_setting('enable_seqscan') as enable_seqscan,
    current_setting('statement_timeout') as statement_timeout,
    current_setting('transaction_timeout', true) as transaction_timeout,
    current_setting('idle_session_timeout') as idle_session_timeout,
    current_setting('max_connections')::int as max_connections,
    (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as connections,
    extract(epoch from clock_timestamp())::float8 as clock
