-- What is owed to each host or was given up. $1 account (null: all)  $2 count no further than this in each state
-- From the indexes of the open ones and of those given up: what was delivered is not looked at.
with found as (
    (select host, state, attempts, created_at from delivery
        where state = 0 and ($1::int is null or account_id = $1) limit $2)
    union all
    (select host, state, attempts, created_at from delivery
        where state = 1 and ($1::int is null or account_id = $1) limit $2)
    union all
    (select host, state, attempts, created_at from delivery
        where state = 2 and ($1::int is null or account_id = $1) limit $2)
    union all
    (select host, state, attempts, created_at from delivery
        where state = 4 and ($1::int is null or account_id = $1) limit $2)
)
select host, count(*) filter (where state < 3 and attempts = 0) as waiting,
    count(*) filter (where state < 3 and attempts > 0) as retrying, count(*) filter (where state = 4) as given_up,
    min(created_at) filter (where state < 3) as oldest
from found group by host
