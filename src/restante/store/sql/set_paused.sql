-- Pause or resume an account. $1 login  $2 paused. No row: there is none.
update account set paused = $2 where login = $1 returning id
