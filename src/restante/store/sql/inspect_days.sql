-- Days of $2 for which a daily table of $1 has no partition.
select distinct d as day from unnest($1::text[]) t cross join unnest($2::date[]) d
where to_regclass(t || '_' || to_char(d, 'YYYYMMDD')) is null order by day
