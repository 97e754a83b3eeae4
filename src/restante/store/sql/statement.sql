-- The newest transfers of an account. $1 account  $2 how many
select made_at, kind, task_id, balance, held, spent, funded from transfer
where account_id = $1 order by made_at desc, kind desc limit $2
