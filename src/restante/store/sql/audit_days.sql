-- The days whose tasks are kept and that have any, or transfers, oldest first. Known by their partitions; one look into
-- each tells whether there is anything. $1 whether those are wanted too whose answers are over: such a day has no
-- unfinished task (old_days.sql), and nothing comes to it any more.
select d.day from (
    select to_date(right(c.relname, 8), 'YYYYMMDD') as day
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'task'::regclass
) d
where ($1::bool or to_regclass('answer_' || to_char(d.day, 'YYYYMMDD')) is not null)
    and (exists (select from task t where t.day = d.day) or exists (select from transfer x where x.hold_day = d.day))
order by d.day
