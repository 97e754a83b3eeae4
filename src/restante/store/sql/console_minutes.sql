-- How many tasks ended, by minute. $1 from  $2 account (null: all)
select minute, sum(done)::int as done, sum(failed)::int as failed from settled_minute
where minute >= $1 and ($2::int is null or account_id = $2)
group by minute order by minute
