-- Whether an account has tasks in the queue that were posted before a time. $1 account  $2 time
select exists (select from queue where account_id = $1 and posted_at <= $2)
