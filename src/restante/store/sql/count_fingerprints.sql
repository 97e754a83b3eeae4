-- How often tasks with these fingerprints were posted. Under lock_payers. $1 accounts  $2 digests  $3 hour  $4 its day
select w.account_id, w.digest, f.this_hour, f.this_day from unnest($1::int[], $2::bytea[]) as w (account_id, digest)
cross join lateral (
    select coalesce(sum(posted) filter (where hour = $3), 0)::int as this_hour, coalesce(sum(posted), 0)::int as this_day
    from fingerprint
    where account_id = w.account_id and digest = w.digest
        and hour >= $4::timestamptz and hour < $4::timestamptz + interval '24 hours'
) f
