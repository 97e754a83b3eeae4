-- Forget what an account's receivers replied, and the URLs they were asked at, on one day. $1 day  $2 account
-- By account, since an attempt may outlive its delivery. Reads the whole day: no index has the successful ones by account.
delete from attempt where day = $1 and account_id = $2
