-- After a top-up or when an account is resumed, in its transaction: what waited for that is ready again.
-- $1 login. Returns the lanes.
update queue set state = 0, run_at = null
where state = 1 and run_at = 'infinity'
    and account_id = (select id from account where login = $1 and (balance < -credit_limit) is not true and not paused)
returning lane
