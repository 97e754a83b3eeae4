-- Give a leased task back at once: it keeps its turn, and that it was claimed does not count. $1 token  $2 id
update queue set state = 0, token = null, attempts = greatest(attempts - 1, 0) where id = $2 and token = $1 returning id
