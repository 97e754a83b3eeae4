-- What waits and runs, among the $2 oldest unfinished tasks. $1 account (null: all)
-- `seen` tells whether there are more. Index queue_posted gives them oldest first.
select count(*)::int as seen,
    count(*) filter (where mine and state = 0)::int as ready,
    count(*) filter (where mine and state = 2)::int as running,
    count(*) filter (where mine and state = 1 and run_at <> 'infinity' and batch is null)::int as retrying,
    count(*) filter (where mine and state = 1 and run_at <> 'infinity' and batch is not null)::int as batched,
    count(*) filter (where mine and state = 1 and run_at = 'infinity')::int as unpaid,
    min(posted_at) filter (where mine) as oldest,
    min(posted_at) filter (where mine and state = 0) as oldest_ready
from (
    select state, run_at, batch, posted_at, $1::int is null or account_id = $1 as mine
    from queue order by posted_at limit $2
) q
