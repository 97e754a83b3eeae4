-- Take tasks off tasks_ready. $1 accounts  $2 platform  $3 their places in the listing
-- One by one by key: joined, the plan may read everybody's listings (notes, trap 3).
delete from ready where ctid = any (array (
    select x.ctid from unnest($1::int[], $3::bigint[]) as u (account_id, seq)
    cross join lateral (
        select r.ctid from ready r where r.account_id = u.account_id and r.platform = $2 and r.seq = u.seq limit 1
    ) x
))
