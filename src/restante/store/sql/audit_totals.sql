-- What the audit looked at.
select (select count(*) from account) as accounts, count(*) as transfers,
    coalesce(sum(balance + held + spent - funded), 0)::bigint as difference,
    coalesce(sum(funded), 0)::bigint as funded, coalesce(sum(spent), 0)::bigint as spent,
    coalesce(sum(held), 0)::bigint as held, coalesce(sum(balance), 0)::bigint as balance
from transfer
