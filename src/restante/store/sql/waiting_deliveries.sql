-- To which hosts, and for which accounts, deliveries are ready. $1 host  $2 account  to look after  $3 how many pairs
-- A loose index scan: as many index look-ups as pairs, however many deliveries wait for each. `owes`: the account is
-- below its credit limit, its deliveries wait until it has topped up (contract §12.7).
with recursive pair as (
    (
        select host, account_id from delivery
        where state = 0 and (host, account_id) > ($1::text collate "C", $2::int)
        order by host, account_id limit 1
    )
    union all
    select n.host, n.account_id from pair p
    cross join lateral (
        select d.host, d.account_id from delivery d
        where d.state = 0 and (d.host, d.account_id) > (p.host, p.account_id)
        order by d.host, d.account_id limit 1
    ) n
)
select host, account_id,
    (select a.balance < -a.credit_limit from account a where a.id = account_id) is true as owes
from pair limit $3
