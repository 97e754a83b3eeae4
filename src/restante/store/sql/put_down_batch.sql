-- A look at a batch broke: somebody looks again in a while, and finds it where it stood. $1 id  $2 the worker's token
-- $3 seconds. Of where it stands nothing is written: whoever broke may have passed further than it knows.
update batch set look_at = now() + make_interval(secs => $3), token = null where id = $1 and token = $2
