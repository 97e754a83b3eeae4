-- A worker leaves of its own accord. $1 token
delete from worker where token = $1
