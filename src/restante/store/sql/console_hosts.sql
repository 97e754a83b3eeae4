-- Hosts that webhooks could not be brought to and that are tried again, of the $2 whose turn comes next. $1 account (null: all)
select host, count(*)::int as waiting, max(attempts)::int as attempts, min(run_at) as next_at, min(created_at) as since
from (
    select host, account_id, attempts, run_at, created_at from delivery where state = 1 order by run_at limit $2
) d
where attempts > 0 and ($1::int is null or account_id = $1)
group by host order by count(*) desc, host limit 20
