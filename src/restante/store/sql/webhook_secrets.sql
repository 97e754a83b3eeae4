-- The live signing secrets of accounts, newest first; an account without one gets one. $1 accounts  $2 a fresh one each
with made as (
    insert into webhook_secret (account_id, generation, secret)
    select u.id, 1, u.secret from unnest($1::int[], $2::bytea[]) as u (id, secret)
    where not exists (select from webhook_secret w where w.account_id = u.id)
    on conflict do nothing returning account_id, generation, secret
)
select account_id, generation, secret from made
union all
select account_id, generation, secret from webhook_secret where account_id = any ($1)
order by account_id, generation desc
