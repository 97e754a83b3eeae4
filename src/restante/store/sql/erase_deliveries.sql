-- Forget an account's webhooks of the tasks of one day: bodies, URLs, tags; a batch, in the order of their tasks.
-- $1 day  $2 account  $3 of tasks posted before  $4 with ids beyond this one  $5 how many. Returns the tasks' ids.
-- One that is just being made ends without a record. Found by the ids of the day's minutes, as in erase_day.sql.
with span as materialized (
    select greatest((minute || '-' || account || '-0000-0000-000000000000')::uuid, $4::uuid) as first,
        (minute || '-' || account || '-ffff-ffff-ffffffffffff')::uuid as last
    from (
        select to_char($1::date + n * interval '1 minute', 'MMDDHH24MI') as minute, lpad(to_hex($2::int), 4, '0') as account
        from generate_series(0, 1439) n
    ) m
), found as materialized (
    select d.id from span s
    cross join lateral (
        select id, task_id from delivery
        where task_id between s.first and s.last and task_id > $4::uuid and day = $1 and account_id = $2
            and posted_at <= $3
    ) d
    order by d.task_id limit $5
)
delete from delivery d where d.id = any (array (select id from found)) returning d.task_id
