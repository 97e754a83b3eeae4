-- A page of accounts by number. $1 beyond this number  $2 what the login contains (null: anything)  $3 only paused ones
-- $4 only those below their credit limit  $5 today  $6 how many
select id, login, balance, held, spent, funded, credit_limit, created_at, paused,
    case when today = $5 then today_posted + today_live else 0 end as spent_today
from account
where id > $1 and ($2::text is null or position(lower($2) in lower(login)) > 0) and (not $3 or paused)
    and (not $4 or balance < -credit_limit)
order by id limit $6
