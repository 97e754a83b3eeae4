-- A new signing secret for an account; the newest two stay live, older ones end. $1 account  $2 secret
-- Two at once meet at the primary key: one of them is a conflict and is tried again.
with newest as materialized (
    select coalesce(max(generation), 0) as generation from webhook_secret where account_id = $1
), gone as (
    delete from webhook_secret w using newest n where w.account_id = $1 and w.generation < n.generation
)
insert into webhook_secret (account_id, generation, secret) select $1, generation + 1, $2 from newest returning generation
