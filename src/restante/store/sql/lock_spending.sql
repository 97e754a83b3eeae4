-- Where all accounts share a daily cap, one transaction at a time accepts tasks; a statement of its own before accept
-- and hold_live, whose snapshots then hold all that others accepted. The number is arbitrary, ours alone.
select pg_advisory_xact_lock(7305043)
