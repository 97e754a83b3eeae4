-- The models that tasks were ever for.
select id, provider, model, paused from lane where id <> 0 order by model, provider, id
