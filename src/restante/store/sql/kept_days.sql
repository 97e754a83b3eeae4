-- The days that a table is kept of, oldest first. $1 table
select to_date(right(c.relname, 8), 'YYYYMMDD') as day
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = to_regclass($1)
order by day
