-- The accounts with a deadline of their own, by its hours (contract §12.25). Reads the accounts, never the queue.
select (limits ->> 'deadline_hours')::int as hours, array_agg(id) as ids
from account where limits ? 'deadline_hours' group by hours order by hours
