-- What an account's tasks posted on a day cost so far, by function. $1 account  $2 day. A day gone by is not kept.
select case when today = $2 then today_posted else 0 end as posted, case when today = $2 then today_live else 0 end as live
from account where id = $1
