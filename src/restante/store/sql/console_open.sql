-- Unfinished tasks, newest first, before a place in that order, of the $9 before it. $1 posted since
-- $2 the place: when posted  $3 and which id  $4 account  $5 states of the queue  $6 lanes  $7 tag (4 to 7: null is any)
-- $8 how many
select q.day, q.id, q.account_id, q.state as queue_state, q.held, q.posted_at, q.tag, q.lane
from (select * from queue where posted_at >= $1 and posted_at <= $2 order by posted_at desc limit $9) q
where (q.posted_at, q.id) < ($2, $3)
    and ($4::int is null or q.account_id = $4) and ($5::smallint[] is null or q.state = any ($5))
    and ($6::int[] is null or q.lane = any ($6)) and ($7::text is null or q.tag = $7)
order by q.posted_at desc, q.id desc limit $8
