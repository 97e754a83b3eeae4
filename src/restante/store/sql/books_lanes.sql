-- The lanes that tasks were ever posted to, and how many are ready in each. $1 count no further than this
select provider, model, paused, (
    select count(*) from (select from queue q where q.lane = l.id and q.state = 0 limit $1) x
) as ready, (
    select min(x.posted_at) from (
        select q.posted_at from queue q where q.lane = l.id and q.state = 0 order by q.turn, q.id limit 100
    ) x
) as oldest
from lane l where l.id <> 0 order by provider, model
