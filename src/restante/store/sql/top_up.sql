-- Money comes in. $1 login  $2 day  $3 now  $4 id of the transfer  $5 amount (negative: taken back)
with paid as (
    update account set balance = balance + $5, funded = funded + $5 where login = $1 returning id, balance
), made as (
    insert into transfer (hold_day, task_id, kind, account_id, balance, held, spent, funded, made_at)
    select $2, $4, 1, id, $5, 0, 0, $5, $3 from paid
)
select balance from paid
