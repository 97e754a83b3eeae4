-- What one task cost. $1 day  $2 id  $3 account
select held, charged, state, code, posted_at, settled_at, batch_saved from task where day = $1 and id = $2 and account_id = $3
