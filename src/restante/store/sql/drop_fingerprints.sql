-- Fingerprints of hours that no limit looks at any more are forgotten. $1 before this hour  $2 how many at the most
with old as materialized (
    select account_id, digest, hour from fingerprint where hour < $1 order by hour limit $2 for update skip locked
)
delete from fingerprint f using old o
where f.account_id = o.account_id and f.digest = o.digest and f.hour = o.hour
