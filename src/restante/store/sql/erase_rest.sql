-- What else of an account's tasks is kept outside of their days: listings with tags, answers to keys, fingerprints.
-- $1 account
with listed as (
    delete from ready where account_id = $1
), repeated as (
    delete from fingerprint where account_id = $1
)
delete from idempotency where account_id = $1
