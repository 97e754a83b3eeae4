-- The worker lives. $1 token  $2 lease in seconds  $3 how its provider did of late, as JSON (null: nothing to say).
-- No row: its lease ended and its tasks went to others.
update worker set expires_at = now() + make_interval(secs => $2), calls = coalesce($3::jsonb, calls)
where token = $1 returning token
