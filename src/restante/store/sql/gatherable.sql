-- Lanes in which tasks have gathered long enough for a batch, or enough of them.
-- $1 the providers  $2 seconds to gather  $3 tasks of a full batch  $4 batches that may be open at once
-- $5 seconds until a batch's tasks are called directly. Tasks that gather.sql leaves behind make no batch due: else one
-- of them would send everybody's youngest off in batches of one.
with gathering as not materialized (
    select q.lane, q.posted_at from queue q
    where q.state = 1 and q.batch = 0
        and not exists (
            select from account a where a.id = q.account_id and (
                a.balance < -a.credit_limit or a.paused
                or q.posted_at + make_interval(hours => (a.limits ->> 'deadline_hours')::int)
                    < now() + make_interval(secs => $5::float8)
            )
        )
)
select l.id, l.provider, l.model from lane l
where l.provider = any ($1) and not l.paused
    and $4 > (select count(*) from batch b where b.state < 3)
    and (
        exists (select from gathering g where g.lane = l.id and g.posted_at <= now() - make_interval(secs => $2))
        or exists (select from gathering g where g.lane = l.id offset $3 - 1 limit 1)
    )
order by l.id
