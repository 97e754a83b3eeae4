-- Tasks leave their batch and are ready for direct calls. $1 batch  $2 only these (null: all that are left in it)
with gone as (
    update queue set state = 0, run_at = null, batch = null
    where state = 1 and batch = $1 and ($2::uuid[] is null or id = any ($2))
    returning id
), counted as (
    update batch set fell_back = fell_back + (select count(*) from gone) where id = $1
)
select count(*)::int from gone
