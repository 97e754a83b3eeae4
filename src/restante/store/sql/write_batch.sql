-- Where a batch stands now; nothing when another worker looks after it. $1 id  $2 the worker's token  $3 state
-- $4 project  $5 remote name  $6 file  $7 outcome  $8 seconds until the next look; null: it stays ours
-- $9 whether it is being asked for at this moment
update batch
set state = $3::smallint, project = $4, remote = $5, file = $6, outcome = $7,
    look_at = now() + make_interval(secs => coalesce($8, 0)),
    token = case when $8::float8 is null then token end,
    asked_at = case when $9 then now() else asked_at end,
    asks = asks + case when $9 then 1 else 0 end,
    ended_at = case when $3::smallint = 3 then now() end
where id = $1 and token = $2
returning id
