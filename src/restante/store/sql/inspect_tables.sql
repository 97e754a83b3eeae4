-- Tables with more than $1 dead rows, most of them first, and the age of the oldest row that is not frozen.
select relname::text as name, n_dead_tup as dead, extract(epoch from now() - greatest(last_vacuum, last_autovacuum))::float8 as seconds,
    (select age(datfrozenxid) from pg_database where datname = current_database()) as age
from pg_stat_user_tables where n_dead_tup > $1::bigint
union all
select '', 0, null, age(datfrozenxid) from pg_database where datname = current_database()
order by dead desc limit 6
