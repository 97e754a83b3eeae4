-- Add calls to the usage figures. $1 days  $2 accounts  $3 endpoints  $4 calls of the day  $5 newest minutes
-- $6 calls of that minute. Each (day, account, endpoint) at most once. Sorted, so that two processes take the rows in
-- one order and never deadlock.
insert into usage as u (day, account_id, endpoint, calls, minute, minute_calls)
select * from unnest($1::date[], $2::int[], $3::text[], $4::bigint[], $5::timestamptz[], $6::bigint[])
    as n (day, account_id, endpoint, calls, minute, minute_calls)
order by n.day, n.account_id, n.endpoint
on conflict (day, account_id, endpoint) do update set
    calls = u.calls + excluded.calls,
    minute = greatest(u.minute, excluded.minute),
    minute_calls = case
        when excluded.minute > u.minute then excluded.minute_calls
        when excluded.minute = u.minute then u.minute_calls + excluded.minute_calls
        else u.minute_calls
    end
