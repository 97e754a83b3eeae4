-- The paused models of a provider. $1 provider
select model from lane where provider = $1 and paused
