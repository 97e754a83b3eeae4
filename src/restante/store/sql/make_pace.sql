-- The clocks of a model in a provider's projects, made on first use. $1 provider  $2 model  $3 projects
insert into pace (provider, project, model) select $1, unnest($3::text[]), $2 on conflict do nothing
