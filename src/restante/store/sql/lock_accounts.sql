-- One transaction at a time adds accounts. The number is arbitrary, ours alone.
select pg_advisory_xact_lock(7305042)
