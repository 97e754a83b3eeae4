-- The days that hold tasks or transfers of tasks.
select day from (select day from task union select hold_day from transfer where kind <> 1) d order by day
