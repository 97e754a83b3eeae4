-- A page of an account's statement, newest first. $1 account  $2 made from  $3 made before  $4 kind (null: all)
-- $5, $6, $7 time, task and kind of the last row of the page before (null: the first page)  $8 how many
-- $9 days from its hold within which a task is resolved: they bound the partitions to be looked at.
select made_at, kind, task_id, balance, held, spent, funded from transfer
where account_id = $1 and made_at >= $2 and made_at < $3
    and hold_day between ($2::timestamptz at time zone 'UTC')::date - $9::int
        and ($3::timestamptz at time zone 'UTC')::date + 1
    and ($4::smallint is null or kind = $4)
    and made_at <= coalesce($5::timestamptz, 'infinity')
    and ($5::timestamptz is null or (made_at, task_id, kind) < ($5, $6::uuid, $7::smallint))
order by made_at desc, task_id desc, kind desc limit $8
