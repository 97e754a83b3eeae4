-- What differs from one look to the next when something of an account's has changed. $1 accounts; 0 among them stands for
-- all of them. An account's own row moves with each task that is taken or settled, and its figures by minute a moment
-- later; what others do must not show in it.
select id, concat_ws(' ', balance, held, spent, paused, today,
    (select sum(done + failed) from settled_minute s where s.account_id = a.id and s.minute > now() - interval '2 minutes')
) as mark
from account a where id = any ($1)
union all
select 0, concat_ws(' ',
    (select last_value from ready_seq), -- settled
    (select max(posted_at) from queue), -- accepted
    (select max(turn) from lane), -- claimed
    (select max(id) from delivery),
    (select sum(done + failed) from settled_minute where minute > now() - interval '2 minutes'))
where 0 = any ($1)
