-- Daily partitions of a table whose day is before $2, oldest first. $1 table
-- A day with queued tasks is none: whatever else its tables hold, these still need it.
select c.relname as name, to_date(right(c.relname, 8), 'YYYYMMDD') as day
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = to_regclass($1) and to_date(right(c.relname, 8), 'YYYYMMDD') < $2
    and not exists (
        -- by its index: a task's day is that of its posting
        select from queue q
        where q.posted_at >= to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC'
            and q.posted_at < (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC'
    )
order by day
