-- The newest id of a day up to $2. $1 day
select id from task where day = $1 and id <= $2 order by id desc limit 1
