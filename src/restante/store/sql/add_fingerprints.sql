-- Count accepted tasks by their fingerprints. Under lock_payers. $1 accounts  $2 digests  $3 hour  $4 how many of each
insert into fingerprint as f (account_id, digest, hour, posted)
select account_id, digest, $3, posted from unnest($1::int[], $2::bytea[], $4::int[]) as u (account_id, digest, posted)
on conflict (account_id, digest, hour) do update set posted = f.posted + excluded.posted
