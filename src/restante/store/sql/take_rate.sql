-- Reserve a block of calls in the current minute of an account's endpoint.
-- $1 account  $2 endpoint  $3 limit  $4 block  $5 the time (null: the database's, as it is outside of tests)
-- Returns what is taken now (null: nothing was left) and how many seconds the minute still has.
with clock as materialized (
    select at, date_trunc('minute', at) as minute from (select coalesce($5::timestamptz, now()) as at) t
), taken as (
    insert into rate_window as w (account_id, endpoint, minute, taken)
    select $1, $2, minute, $4::int from clock
    on conflict (account_id, endpoint, minute) do update set taken = w.taken + excluded.taken where w.taken < $3::int
    returning taken
)
select (select taken from taken) as taken,
    extract(epoch from minute + interval '1 minute' - at)::float8 as seconds_left
from clock
