-- Parked tasks whose time has come are ready again, and leave their batch if they are in one.
-- $1 how many at the most. Returns their lanes.
with due as materialized (
    select ctid from queue where state = 1 and run_at <= now() order by run_at limit $1 for update skip locked
)
update queue set state = 0, run_at = null, batch = null where ctid = any (array (select ctid from due)) returning lane
