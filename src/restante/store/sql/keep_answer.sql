-- Keep the answer to an idempotency key; in the transaction that accepts the tasks, as its last statement.
-- $1 account  $2 key  $3 hash of the body  $4 answer  $5 now  $6 older ones count no longer
-- Waits for whoever is keeping the same key. No row: the key has its answer already.
insert into idempotency as i (account_id, key, body_hash, answer, made_at) values ($1, $2, $3, $4, $5)
on conflict (account_id, key) do update
    set body_hash = excluded.body_hash, answer = excluded.answer, made_at = excluded.made_at
    where i.made_at < $6
returning true
