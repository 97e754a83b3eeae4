-- Deliveries leased to workers that are gone are ready again, at the same place of their schedule. $1 tokens
update delivery set state = 0, token = null where state = 2 and token = any ($1) returning id
