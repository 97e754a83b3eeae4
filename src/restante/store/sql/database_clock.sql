-- What time it is in the database, and since when its server runs.
select now() as now, pg_postmaster_start_time() as started
