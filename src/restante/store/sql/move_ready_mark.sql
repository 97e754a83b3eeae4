-- Move an account's mark in tasks_ready, unless somebody has touched it since it was looked at (docs/adr/0003).
-- $1 account  $2 platform  $3 version that was seen, null: none  $4 seq  $5 the next boundary, a place given before
-- The horizon is this transaction: it began after $5 was read, hence after every transaction with a place below it.
-- A mark begins at 0, where it proves nothing yet.
insert into ready_mark as m (account_id, platform, seq, version, boundary, horizon)
values ($1, $2, 0, 1, $5, pg_current_xact_id())
on conflict (account_id, platform) do update
    set seq = $4, version = m.version + 1, boundary = excluded.boundary, horizon = excluded.horizon
    where m.version = $3
