-- The installation's own key, made once. $1 a fresh random one
with made as (
    insert into installation (pepper) values ($1) on conflict do nothing returning pepper
)
select pepper from made union all select pepper from installation
