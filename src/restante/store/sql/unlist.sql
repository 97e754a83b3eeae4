-- Take tasks off tasks_ready. $1 accounts  $2 platform  $3 their places in the listing
delete from ready r using unnest($1::int[], $3::bigint[]) as u (account_id, seq)
where r.account_id = u.account_id and r.platform = $2 and r.seq = u.seq
