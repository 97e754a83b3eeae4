-- Tasks of webhooks that failed and were not delivered since: given up, or waiting for their next attempt.
-- $1 account (null: all)  $2 owed since  $3 host (null: all)  $4 how many tasks
select account_id, task_id from (
    select account_id, task_id, id from delivery
    where state = 4 and ($1::int is null or account_id = $1) and created_at >= $2 and ($3::text is null or host = $3)
    union all
    select account_id, task_id, id from delivery
    where state = 1 and attempts > 0 and ($1::int is null or account_id = $1) and created_at >= $2
        and ($3::text is null or host = $3)
) d
group by account_id, task_id order by min(id) limit $4
