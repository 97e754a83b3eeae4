-- What their batch saved the accounts of tasks of one day. $1 day  $2 ids  $3 nano-dollars
update task t set batch_saved = u.saved
from unnest($2::uuid[], $3::bigint[]) as u (id, saved)
where t.day = $1 and t.id = u.id and t.id = any ($2::uuid[])
