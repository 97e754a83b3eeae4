-- The worker lives. $1 token  $2 lease in seconds. No row: its lease ended and its tasks went to others.
update worker set expires_at = now() + make_interval(secs => $2) where token = $1 returning token
