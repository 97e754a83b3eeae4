-- Lease tasks in order to settle them at once, in the same transaction, with what their batch says.
-- $1 token  $2 batch  $3 ids. Those that left the batch meanwhile are passed over. Returns the ids.
update queue set state = 2, run_at = null, token = $1, attempts = least(attempts + 1, 32767)
where state = 1 and batch = $2 and id = any ($3::uuid[])
returning id
