-- Tables whose rows the database would not protect: a trigger is missing or was disabled. Read from the catalogue.
select c.relname as name, p.number
from (values ('transfer', 'refuse_change', 8 | 16 | 32, 'I5'), ('task', 'refuse_second_end', 16, 'I7'))
    as p (parent, function, events, number)
join lateral (
    select p.parent::regclass::oid as oid
    union all select i.inhrelid from pg_inherits i where i.inhparent = p.parent::regclass
) t on true
join pg_class c on c.oid = t.oid
left join lateral (
    select bit_or(g.tgtype::int) as events from pg_trigger g
    where g.tgrelid = t.oid and g.tgfoid = p.function::regproc and g.tgenabled in ('O', 'A')
) g on true
where coalesce(g.events, 0) & p.events <> p.events
order by c.relname
