-- The holds taken from an account are the holds its tasks carry; one row for each account that differs.
-- $1 day  $2, $3 a part of it: beyond the one id, up to the other (audit_part.sql)
select coalesce(t.account_id, x.account_id) as account_id, t.held as tasks_held, x.held as transfers_held
from (
    select account_id, sum(held)::bigint as held from task where day = $1 and id > $2 and id <= $3 group by account_id
) t
full join (
    select account_id, sum(held)::bigint as held from transfer
    where hold_day = $1 and task_id > $2 and task_id <= $3 and kind = 2 group by account_id
) x using (account_id)
where t.held is distinct from x.held
