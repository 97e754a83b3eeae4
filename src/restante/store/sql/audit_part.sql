-- Where a part of a day's tasks ends that the audit looks at in one statement: with the minute in which it has so many,
-- since the tasks of a POST, which share a transfer, are of one minute. $1 day  $2 beyond this id  $3 how many tasks
select coalesce(
    (
        select (left(id::text, 8) || '-ffff-ffff-ffff-ffffffffffff')::uuid from task
        where day = $1 and id > $2 order by id offset $3 limit 1
    ),
    'ffffffff-ffff-ffff-ffff-ffffffffffff'
)
