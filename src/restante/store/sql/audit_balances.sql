-- Cached balances against the transfers, and whether these add up; one row for each account that differs.
select a.id, a.login,
    a.balance, a.held, a.spent, a.funded,
    coalesce(s.balance, 0) as sum_balance, coalesce(s.held, 0) as sum_held,
    coalesce(s.spent, 0) as sum_spent, coalesce(s.funded, 0) as sum_funded,
    (s.balance + s.held + s.spent <> s.funded) is true as from_nowhere
from account a full join (
    select account_id, sum(balance)::bigint as balance, sum(held)::bigint as held,
        sum(spent)::bigint as spent, sum(funded)::bigint as funded
    from transfer group by account_id
) s on s.account_id = a.id
where (a.balance, a.held, a.spent, a.funded)
    is distinct from (coalesce(s.balance, 0), coalesce(s.held, 0), coalesce(s.spent, 0), coalesce(s.funded, 0))
    or s.balance + s.held + s.spent <> s.funded
