-- The tasks that are in a batch, in the order of their ids. $1 batch  $2 after this id (null: from the first)
-- $3 only these (null: all)  $4 how many at the most
select q.id, q.day, r.request
from queue q
left join lateral (select request from task_request r where r.day = q.day and r.id = q.id limit 1) r on true
where q.state = 1 and q.batch = $1 and ($2::uuid is null or q.id > $2) and ($3::uuid[] is null or q.id = any ($3))
order by q.id limit $4
