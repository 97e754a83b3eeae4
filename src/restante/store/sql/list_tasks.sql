-- An account's tasks of a time range, in the order of posting. $1 account  $2 from  $3 until before  $4 backwards
-- $5 left out before  $6 how many  $7 with their requests. Before its account a task cannot be; the hour is for clocks.
select t.id, t.function, t.state, t.code, t.charged, t.posted_at, t.settled_at, q.state = 2 as running, r.request
from account c
cross join lateral account_tasks(
    c.id, greatest($2::timestamptz, c.created_at - interval '1 hour'), $3, $4, $5, $6
) with ordinality as t (day, id, function, state, code, charged, posted_at, settled_at, place)
left join lateral (select q.state from queue q where t.state = 0 and q.id = t.id limit 1) q on true
left join lateral (select r.request from task_request r where $7 and r.day = t.day and r.id = t.id limit 1) r on true
where c.id = $1
order by t.place
