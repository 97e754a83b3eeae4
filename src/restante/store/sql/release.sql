-- Give leased tasks back. $1 token  $2 ids  $3 when to run them again (null: at once)  $4 tries to add to each
with item as materialized (
    select * from unnest($2::uuid[], $3::timestamptz[], $4::smallint[]) as u (id, run_at, tries)
)
update queue q
set state = case when i.run_at is null then 0 else 1 end, run_at = i.run_at, token = null, tries = q.tries + i.tries
from item i where q.id = i.id and q.token = $1
returning q.id
