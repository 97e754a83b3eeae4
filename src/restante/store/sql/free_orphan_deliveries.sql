-- Deliveries leased to a token that its process does not know of (see free_orphans). $1 token  $2 ids that it holds
update delivery set state = 0, token = null
where state = 2 and token = $1 and not (id = any ($2::bigint[])) returning id
