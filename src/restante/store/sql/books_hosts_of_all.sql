-- How the newest webhooks of all accounts fared, by host. $1 how many
with newest as materialized (select host, state, attempts from delivery order by id desc limit $1)
select host, count(*) as seen, count(*) filter (where state = 3) as delivered,
    count(*) filter (where state = 3 and attempts = 1) as at_once
from newest group by host
