-- $1 login  $2 secret
update account set secret = $2 where login = $1 returning id
