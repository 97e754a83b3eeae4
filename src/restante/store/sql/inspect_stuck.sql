-- Work that nobody moves: leased to a lease that there is none of, parked beyond its time by $1 seconds, not ended by its
-- deadline $2 (accounts with deadlines of their own aside, which are shorter).
select
    (select count(*) from queue q where q.state = 2 and not exists (select from worker w where w.token = q.token))::int
        as leased,
    (select count(*) from delivery d where d.state = 2 and not exists (select from worker w where w.token = d.token))::int
        as delivering,
    (select count(*) from queue where state = 1 and run_at < now() - make_interval(secs => $1))::int
        + (select count(*) from delivery where state = 1 and run_at < now() - make_interval(secs => $1))::int as parked,
    (select count(*) from queue where posted_at < $2)::int as late
