-- Leases that had run out at $1: by now() a statement that was kept waiting by a server that hung would end those of
-- the living, too. Their queue rows are freed by free_leases in the same transaction, as a statement of its own:
-- one statement for both would not see a claim that it waited for, and leave its rows leased to nobody.
delete from worker where expires_at < $1 returning token, name
