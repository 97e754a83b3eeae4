-- Deliveries whose time is over leave, oldest first; open ones stay until they ended.
-- $1 beyond this id  $2 made before  $3 how many to look at
-- Ids follow time closely enough, so that the primary key finds the old ones and looks at hardly a newer one.
with looked as materialized (
    select id, created_at from delivery where id > $1 order by id limit $3
), gone as (
    delete from delivery d
    where d.id = any (array (select id from looked where created_at < $2)) and d.state in (3, 4)
    returning d.id
)
select (select max(id) from looked) as last, (select count(*) from gone) as swept,
    (select count(*) filter (where created_at < $2) from looked) = $3 as more
