-- What all accounts own together, as their rows say it.
select count(*) as accounts, coalesce(sum(balance), 0)::bigint as balance, coalesce(sum(held), 0)::bigint as held,
    coalesce(sum(spent), 0)::bigint as spent, coalesce(sum(funded), 0)::bigint as funded
from account
