-- For how many seconds the oldest webhook that was not tried yet has been owed; null when there is none.
-- $1 how many (host, account) pairs to look at  $2 how many deliveries of each
-- A loose index scan, as waiting_deliveries. Accounts below their credit limit do not count: theirs wait on purpose.
-- Nor do deliveries that were tried: when those became ready again is not known.
with recursive pair as (
    (select host, account_id from delivery where state = 0 order by host, account_id limit 1)
    union all
    select n.host, n.account_id from pair p
    cross join lateral (
        select d.host, d.account_id from delivery d
        where d.state = 0 and (d.host, d.account_id) > (p.host, p.account_id)
        order by d.host, d.account_id limit 1
    ) n
)
select extract(epoch from now() - min(o.created_at))::float8
from (select host, account_id from pair limit $1) p
cross join lateral (
    select d.created_at, d.attempts from delivery d
    where d.state = 0 and d.host = p.host and d.account_id = p.account_id order by d.id limit $2
) o
where o.attempts = 0
    and not (select a.balance < -a.credit_limit from account a where a.id = p.account_id) is true
