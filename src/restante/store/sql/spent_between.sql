-- What an account's tasks of an id range cost: the charge of settled ones, the hold of the others. $1 day
-- $2 first id  $3 last id. Ids begin with minute and account: this is a range of the primary key.
select function, sum(coalesce(charged, held))::bigint as spent
from task where day = $1 and id between $2 and $3 group by function
