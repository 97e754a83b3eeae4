-- The attempts of a webhook, newest first. $1 its id  $2 since this day  $3 how many
select made_at, milliseconds, status, reply, error from attempt
where delivery_id = $1 and day >= $2 order by made_at desc limit $3
