-- Balance, held and what today's tasks cost. $1 account (null: all)  $2 today
select coalesce(sum(balance), 0)::bigint as balance, coalesce(sum(held), 0)::bigint as held,
    coalesce(sum(case when today = $2 then today_posted + today_live else 0 end), 0)::bigint as today,
    coalesce(sum(spent), 0)::bigint as spent, count(*)::int as accounts, count(*) filter (where paused)::int as paused
from account where $1::int is null or id = $1
