-- Make a batch of what has gathered in a lane, oldest first; no row when there is nothing.
-- $1 lane  $2 how many at the most  $3 name  $4 provider  $5 project  $6 model  $7 seconds until its deadline
-- $8 seconds from there until its tasks are called directly  $9 the token of the worker that looks after it
-- Tasks of accounts that owe too much or are paused stay, and are parked when their time is over and they are claimed;
-- so do those whose account's own deadline might come before their batch, and are called directly then.
with picked as materialized (
    select q.ctid from queue q
    where q.state = 1 and q.batch = 0 and q.lane = $1
        and not exists (
            select from account a where a.id = q.account_id and (
                a.balance < -a.credit_limit or a.paused
                or q.posted_at + make_interval(hours => (a.limits ->> 'deadline_hours')::int)
                    < now() + make_interval(secs => $7::float8 + $8::float8)
            )
        )
    order by q.posted_at limit $2 for update of q skip locked
), made as (
    insert into batch (name, provider, project, model, deadline, token, tasks)
    select $3, $4, $5, $6, now() + make_interval(secs => $7), $9, count(*) from picked having count(*) > 0
    returning *
), moved as (
    update queue q set batch = m.id, run_at = m.deadline + make_interval(secs => $8)
    from made m where q.ctid = any (array (select ctid from picked))
)
select *, 0::float8 as age, 0::float8 as since_asked, $7::float8 as left from made
