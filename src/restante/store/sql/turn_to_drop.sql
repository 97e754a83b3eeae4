-- One transaction at a time drops days of a table; false: another is at it. Two at once could fail: DROP finds the
-- parent of a partition before it waits for the partition, which may be gone by then. The number is arbitrary, ours
-- alone. $1 table
select pg_try_advisory_xact_lock(7305044, hashtext($1::text))
