-- One account as its page shows it. $1 number  $2 today
select id, login, balance, held, spent, funded, credit_limit, created_at, paused,
    case when today = $2 then today_posted + today_live else 0 end as spent_today,
    paused_by, limits::text as limits, case when old_secret_until > now() then old_secret_until end as old_password_until
from account where id = $1
