-- An account's calls of a day, and of a minute of it. $1 day  $2 account  $3 the minute
select endpoint, calls, case when minute = $3 then minute_calls else 0 end as minute_calls
from usage where day = $1 and account_id = $2
