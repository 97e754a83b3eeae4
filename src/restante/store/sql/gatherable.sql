-- Lanes in which tasks have gathered long enough for a batch, or enough of them.
-- $1 the providers  $2 seconds to gather  $3 tasks of a full batch  $4 batches that may be open at once
select l.id, l.provider, l.model from lane l
where l.provider = any ($1) and not l.paused
    and $4 > (select count(*) from batch b where b.state < 3)
    and (
        exists (
            select from queue q where q.state = 1 and q.batch = 0 and q.lane = l.id
                and q.posted_at <= now() - make_interval(secs => $2)
        )
        or exists (select from queue q where q.state = 1 and q.batch = 0 and q.lane = l.id offset $3 - 1 limit 1)
    )
order by l.id
