-- Deliveries whose task's day is over leave with its answer, oldest first; open ones stay until they ended.
-- $1 beyond this id  $2 of tasks posted before this day  $3 how many to look at
-- Ids follow time closely enough, so that the primary key finds the old ones and looks at hardly a newer one: the first
-- batch without any is the last.
with looked as materialized (
    select id, day from delivery where id > $1 order by id limit $3
), gone as (
    delete from delivery d
    where d.id = any (array (select id from looked where day < $2)) and d.state in (3, 4)
    returning d.id
)
select (select max(id) from looked) as last, (select count(*) from gone) as swept,
    (select count(*) = $3 and bool_or(day < $2) from looked) as more
