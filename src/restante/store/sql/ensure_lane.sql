-- The lane of a provider's project and model, made on first use. $1 provider  $2 project  $3 model
with made as (
    insert into lane (provider, project, model) values ($1, $2, $3) on conflict do nothing returning id
)
select id from made union all select id from lane where provider = $1 and project = $2 and model = $3
