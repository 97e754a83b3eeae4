-- Idempotency keys that expired are forgotten. $1 made before this  $2 how many at the most
with old as materialized (
    select account_id, key from idempotency where made_at < $1 order by made_at limit $2 for update skip locked
)
delete from idempotency i using old where i.account_id = old.account_id and i.key = old.key
