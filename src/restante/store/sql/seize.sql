-- Lease all tasks of an account in order to end them, running ones too: whatever their workers say then is late.
-- $1 token  $2 how many at the most  $3 account  $4 posted before. Those that are just being settled are passed over.
with me as materialized (
    select token from worker where token = $1 for key share
), picked as materialized (
    select q.ctid from queue q
    where q.account_id = $3 and q.posted_at <= $4 and q.token is distinct from $1 and exists (select from me)
    limit $2 for update skip locked
)
update queue q set state = 2, run_at = null, token = $1 where q.ctid = any (array (select ctid from picked))
returning q.id, q.day
