-- Leases that ran out. Their queue rows are freed by free_leases in the same transaction, as a statement of its own:
-- one statement for both would not see a claim that it waited for, and leave its rows leased to nobody.
delete from worker where expires_at < now() returning token, name
