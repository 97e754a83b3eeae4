-- How much there is, for metrics (store/figures.py). $1 how many of each are counted at the most
-- Each count reads one partial index, up to $1 entries of it. Lane 0 holds live tasks.
select
    (select count(*) from (select from queue where state = 1 and run_at < 'infinity' limit $1) counted) as parked,
    (select count(*) from (select from queue where state = 1 and run_at = 'infinity' limit $1) counted) as unpaid,
    (select count(*) from (select from queue where state = 2 and lane <> 0 limit $1) counted) as running,
    (select count(*) from (select from queue where state = 2 and lane = 0 limit $1) counted) as live,
    (select count(*) from worker where claims and expires_at > now()) as workers,
    (select count(*) from (select from delivery where state = 0 limit $1) counted) as webhooks_ready,
    (select count(*) from (select from delivery where state = 1 limit $1) counted) as webhooks_retry,
    (select count(distinct host) from (select host from delivery where state = 1 order by run_at limit $1) counted) as hosts_failing,
    (select coalesce(sum(balance), 0) from account) as balance,
    (select coalesce(sum(held), 0) from account) as held,
    (select coalesce(sum(spent), 0) from account) as spent
