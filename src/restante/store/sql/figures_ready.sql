-- Tasks ready to be claimed, by lane (store/figures.py). $1 how many of each are counted at the most
-- In the index's order, so that it ends at $1 entries.
select l.provider, l.model, (
    select count(*) from (
        select from queue q where q.state = 0 and q.lane = l.id order by q.turn, q.id limit $1
    ) counted
) as tasks
from lane l where l.id <> 0
