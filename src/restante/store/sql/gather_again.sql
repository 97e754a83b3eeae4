-- Tasks that a batch has no room for gather for the next. $1 batch  $2 after this id  $3 seconds until direct calls
with gone as (
    update queue set batch = 0, run_at = now() + make_interval(secs => $3)
    where state = 1 and batch = $1 and id > $2 returning id
)
update batch set tasks = tasks - (select count(*) from gone) where id = $1
