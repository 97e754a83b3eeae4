-- The days that there are tasks of, newest first.
select to_date(right(c.relname, 8), 'YYYYMMDD') as day
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'task'::regclass and pg_relation_size(c.oid) > 0
order by day desc
