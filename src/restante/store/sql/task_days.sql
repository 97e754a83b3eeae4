-- The days that tasks are kept of, oldest first.
select to_date(right(c.relname, 8), 'YYYYMMDD') as day
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'task'::regclass
order by day
