-- Failed attempts of an account's webhooks, newest first. $1 account  $2 from  $3 until before  $4 kind (null: both)
-- $5 how many  $6 left out before
select task_id, made_at, milliseconds, status, reply, error, kind, url from attempt
where account_id = $1 and error is not null and made_at >= $2 and made_at < $3
    and day >= ($2::timestamptz at time zone 'UTC')::date and ($4::smallint is null or kind = $4)
order by made_at desc, delivery_id desc limit $5 offset $6
