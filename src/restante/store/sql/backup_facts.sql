-- What a base backup of this server has to know: its major version, our migration, how many tablespaces of somebody's
-- own there are, and the bytes of the databases that we may look into.
select current_setting('server_version_num')::int / 10000 as postgres, (select max(version) from schema_migration) as migration,
    (select count(*) from pg_tablespace where spcname not in ('pg_default', 'pg_global'))::int as tablespaces,
    (select coalesce(sum(pg_database_size(oid)), 0)::bigint from pg_database where has_database_privilege(oid, 'connect')) as size
