-- The days that hold tasks or transfers of tasks, and whose tasks have not left by retention.
select day from (select day from task union select hold_day from transfer where kind <> 1) d
where to_regclass('task_' || to_char(day, 'YYYYMMDD')) is not null
order by day
