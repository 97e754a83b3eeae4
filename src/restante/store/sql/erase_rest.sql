-- What else of an account's tasks is kept outside of their days: listings with tags, answers to keys, fingerprints.
-- $1 account  $2 of what was posted before. Fingerprints are counts of a clock hour: the one that $2 is in stays until it
-- is swept, since tasks posted later are counted in it too.
with listed as (
    delete from ready where account_id = $1 and posted_at <= $2
), repeated as (
    delete from fingerprint where account_id = $1 and hour < date_trunc('hour', $2::timestamptz)
)
delete from idempotency where account_id = $1 and made_at <= $2
