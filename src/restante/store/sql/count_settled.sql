-- Add to how many tasks ended in a minute. $1 minutes  $2 accounts  $3 done  $4 failed
-- In the order of the key: several processes add to the same rows at once.
insert into settled_minute as s (minute, account_id, done, failed)
select * from unnest($1::timestamptz[], $2::int[], $3::int[], $4::int[]) as u (minute, account_id, done, failed)
order by minute, account_id
on conflict (minute, account_id) do update set done = s.done + excluded.done, failed = s.failed + excluded.failed
