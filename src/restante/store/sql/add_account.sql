-- The lowest free number; the caller holds the accounts' advisory lock. $1 login  $2 secret  $3 credit limit (null: metered)
insert into account (id, login, secret, credit_limit)
select n, $1, $2, $3 from (
    select 1 as n where not exists (select from account where id = 1)
    union all
    select a.id + 1 from account a where a.id < 65535 and not exists (select from account b where b.id = a.id + 1)
) free
order by n limit 1
returning id
