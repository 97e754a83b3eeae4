-- Processes with a lease, and how long it still is (below 0: over), with the tasks and deliveries leased to them.
select w.name, w.claims, w.provider, extract(epoch from w.expires_at - now())::float8 as seconds,
    (select count(*) from queue q where q.token = w.token and q.state = 2)::int as tasks,
    (select count(*) from delivery d where d.token = w.token and d.state = 2)::int as deliveries
from worker w order by w.name
