-- The first start names the operator's account, once. $1 its login
update installation set operator = $1 where operator is null returning operator
