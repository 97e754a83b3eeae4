-- Which installation's database this is, at which migration, and which start of which server holds it.
select (select pepper from installation) as installation, (select max(version) from schema_migration) as version,
    pg_is_in_recovery() as standby, pg_postmaster_start_time() as started
