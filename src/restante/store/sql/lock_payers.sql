-- Lock accounts in the order of their ids, so that what the next statements count is exact. $1 accounts
select id from account where id = any ($1) order by id for no key update
