-- Tasks ready to be claimed, by lane (store/figures.py). $1 how many of each are counted at the most
select l.provider, l.model,
    (select count(*) from (select from queue q where q.state = 0 and q.lane = l.id limit $1) as counted) as tasks
from lane l where l.id <> 0
