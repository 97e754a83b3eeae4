-- How tasks ended. $1 day  $2 ids
select t.id, t.code, t.charged from unnest($2::uuid[]) as w (id)
cross join lateral (select id, code, charged from task where day = $1 and id = w.id and state <> 0 limit 1) t
