-- Give a leased task back, to be run again later. $1 token  $2 id  $3 seconds  $4 tries to add  $5 wasted calls to add
-- By the database's clock, which promote reads too: a worker's own may be off.
update queue
set state = 1, run_at = now() + make_interval(secs => $3), token = null,
    tries = least(tries + $4::int, 32767), wasted = least(wasted + $5::int, 32767)
where id = $2 and token = $1
returning id
