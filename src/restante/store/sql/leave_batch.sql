-- Tasks leave their batch and are ready for direct calls. $1 batch  $2 only these (null: all that are left in it)
-- $3 the token of the worker that looks after it: nobody takes tasks out of a batch that is another's by now
with gone as (
    update queue set state = 0, run_at = null, batch = null
    where state = 1 and batch = $1 and ($2::uuid[] is null or id = any ($2))
        and exists (select from batch b where b.id = $1 and b.token = $3)
    returning id
), counted as (
    update batch set fell_back = fell_back + (select count(*) from gone) where id = $1
)
select count(*)::int from gone
