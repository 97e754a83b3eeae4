-- A batch that is due for a look and that no living worker looks after. $1 the worker's token  $2 providers
update batch b set token = $1, looks = b.looks + 1
where b.id = (
    select o.id from batch o
    where o.state < 3 and o.look_at <= now() and o.provider = any ($2)
        and (o.token is null or o.token = $1 or not exists (select from worker w where w.token = o.token))
    order by o.look_at limit 1 for update skip locked
)
returning b.*, extract(epoch from now() - b.made_at)::float8 as age,
    extract(epoch from now() - coalesce(b.asked_at, b.made_at))::float8 as since_asked,
    extract(epoch from b.deadline - now())::float8 as left
