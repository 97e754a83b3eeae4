-- The database's date in UTC, and whether it has tasks of a day. $1 the name of their partition
select (now() at time zone 'UTC')::date as today, to_regclass($1) is not null as kept
