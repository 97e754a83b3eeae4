-- Hosts that webhooks could not be brought to: those still owed after a failed attempt, and those given up of tasks posted
-- since $1. Most first, $2 of them.
select host, count(*) filter (where state < 3)::int as waiting, count(*) filter (where state = 4)::int as failed
from delivery where attempts > 0 and (state < 3 or (state = 4 and day >= $1))
group by host order by count(*) desc, host limit $2
