-- One transaction at a time drops days; false: another is at it. Two at once could fail: DROP finds the parent of a
-- partition before it waits for the partition, which may be gone by then. The number is arbitrary, ours alone.
select pg_try_advisory_xact_lock(7305044)
