-- What a batch said so far; with the settlement of these tasks, in its transaction.
-- $1 batch  $2 tasks answered  $3 failed for good  $4 nano-dollars saved
update batch set answered = answered + $2::int, failed = failed + $3::int, saved = saved + $4::bigint where id = $1
