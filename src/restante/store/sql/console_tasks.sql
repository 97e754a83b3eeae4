-- Tasks of a stretch of one day, newest first, before a place in that order. $1 day  $2 first id  $3 last id
-- $4 posted since  $5 the place: when posted  $6 and which id  $7 account  $8 state  $9 lanes  $10 tag
-- $11 functions (7 to 11: null is any)  $12 how many
-- Ids begin with their minute, so that a short stretch is a short range of the primary key, and a long one is read through.
select t.day, t.id, t.account_id, t.function, t.state, t.code, t.held, t.charged, t.posted_at, t.settled_at, t.tag, t.lane
from task t
where t.day = $1 and t.id between $2 and $3 and t.posted_at >= $4 and (t.posted_at, t.id) < ($5, $6)
    and ($7::int is null or t.account_id = $7) and ($8::smallint is null or t.state = $8)
    and ($9::int[] is null or t.lane = any ($9)) and ($10::text is null or t.tag = $10)
    and ($11::smallint[] is null or t.function = any ($11))
order by t.posted_at desc, t.id desc limit $12
