-- Lease tasks of an account in order to end them, running ones too: whatever their workers say then is late.
-- $1 token  $2 how many at the most  $3 account  $4 posted before
-- $5, $6 posted, and with an id, beyond these: where the last batch ended, so that all batches are one pass over the
-- queue, which is everybody's. Those that are just being settled are passed over.
with me as materialized (
    select token from worker where token = $1 for key share
), picked as materialized (
    select q.ctid from queue q
    where q.account_id = $3 and q.posted_at >= $5 and (q.posted_at, q.id) > ($5, $6::uuid) and q.posted_at <= $4
        and q.token is distinct from $1 and exists (select from me)
    order by q.posted_at, q.id limit $2 for update skip locked
)
update queue q set state = 2, run_at = null, batch = null, token = $1 where q.ctid = any (array (select ctid from picked))
returning q.id, q.day, q.posted_at
