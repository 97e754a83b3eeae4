-- Parked deliveries whose time has come are ready again. $1 how many at the most.
with due as materialized (
    select ctid from delivery where state = 1 and run_at <= now() order by run_at limit $1 for update skip locked
)
update delivery set state = 0, run_at = null where ctid = any (array (select ctid from due)) returning id
