-- How the webhooks of an account's newest tasks fared, by host. $1 account  $2 posted from  $3 posted before
-- $4 how many tasks
select d.host, count(*) as seen, count(*) filter (where d.state = 3) as delivered,
    count(*) filter (where d.state = 3 and d.attempts = 1) as at_once
from account_tasks($1, $2, $3, true, 0, $4) t
cross join lateral (select host, state, attempts from delivery w where w.task_id = t.id order by w.kind limit 2) d
group by d.host
