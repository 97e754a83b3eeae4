-- The first answer to an idempotency key. $1 account  $2 key  $3 older ones count no longer
select body_hash, answer from idempotency where account_id = $1 and key = $2 and made_at >= $3
