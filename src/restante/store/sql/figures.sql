-- How much there is, for metrics (store/figures.py). $1 how many of each are counted at the most
-- Each count reads one partial index, in its order, so that it ends at $1 entries; accounts and processes are few, and read
-- whole. Lane 0 holds live tasks.
select
    (select count(*) from (select from queue where state = 1 and run_at < 'infinity' order by run_at limit $1) q) as parked,
    (select count(*) from (select from queue where state = 1 and run_at = 'infinity' order by account_id limit $1) q) as unpaid,
    (select count(*) from (select from queue where state = 2 and lane <> 0 order by token limit $1) q) as running,
    (select count(*) from (select from queue where state = 2 and lane = 0 order by account_id limit $1) q) as live,
    (select count(*) from worker where claims and expires_at > now()) as workers,
    (select count(*) from (select from delivery where state = 0 order by host, account_id, id limit $1) d) as webhooks_ready,
    (select count(*) from (select from delivery where state = 1 order by run_at limit $1) d) as webhooks_retry,
    (select count(distinct host) from (select host from delivery where state = 1 order by run_at limit $1) d) as hosts_failing,
    money.*
from (
    select coalesce(sum(balance), 0) as balance, coalesce(sum(held), 0) as held, coalesce(sum(spent), 0) as spent
    from account
) money
