-- Settle tasks of one posting day: answer stored, hold resolved, listed in tasks_ready, queue row gone; together.
-- $1 the worker's token  $2 day  $3 ids  $4 states  $5 codes  $6 messages  $7 charges  $8 bodies  $9 now
-- $15 the providers' own replies, null without one  $16 the days of the prices that the charges were reckoned with
-- $17 who ran them, and how long what took (Trail), as JSON; null where nobody did
-- $10-14 webhooks owed: task ids  kinds  hosts  URLs  bodies. A task with a postback (kind 2) is listed in tasks_ready
-- only when its first attempt fails (contract §12.28).
-- A task whose lease the token no longer holds is passed over: nothing of it changes. Returns the settled ids.
-- What the account spent today changes with its tasks of today; those of an earlier day leave it alone.
-- Tasks are found one by one and updated by their place: joined by id, a plan made for few of them reads the whole day
-- (measured). Nobody else updates a task whose row in the queue is ours, so that its place stays.
-- A live task (lane 0) has nobody to collect it: neither answer nor listing.
-- The arrays are scalar subqueries, whose length no plan looks at: otherwise a group of one is planned anew each time,
-- which takes longer than to settle it (measured).
with item as materialized (
    select * from unnest((select $3::uuid[]), (select $4::smallint[]), (select $5::int[]), (select $6::text[]),
        (select $7::bigint[]), (select $8::bytea[]), (select $15::bytea[]), (select $16::date[]),
        (select $17::bytea[])) as u (id, state, code, message, charged, body, raw, price_date, trail)
), owed as materialized (
    select * from unnest((select $10::uuid[]), (select $11::smallint[]), (select $12::text[]), (select $13::text[]),
        (select $14::bytea[])) as u (id, kind, host, url, body)
), found as (
    select x.tid, i.* from item i
    cross join lateral (select q.ctid as tid from queue q where q.id = i.id and q.token = $1 limit 1) x
), mine as materialized (
    delete from queue q using found i where q.ctid = i.tid and q.token = $1 and q.day = $2
    returning q.id, q.account_id, q.lane, q.held, q.attempts, q.posted_at, q.tag,
        i.state, i.code, i.message, i.charged, i.body, i.raw, i.price_date, i.trail, nextval('ready_seq') as seq
), locked as materialized (
    select id from account where id = any (array (select distinct account_id from mine)) order by id for no key update
), paid as (
    update account a
    set balance = a.balance + o.held - o.charged, held = a.held - o.held, spent = a.spent + o.charged,
        today_posted = a.today_posted + case when a.today = $2 then o.charged - o.held - o.live else 0 end,
        today_live = a.today_live + case when a.today = $2 then o.live else 0 end
    from (
        select account_id, sum(held)::bigint as held, sum(charged)::bigint as charged,
            coalesce(sum(charged - held) filter (where lane = 0), 0)::bigint as live
        from mine group by account_id
    ) o
    where a.id = o.account_id and a.id = any (array (select id from locked))
), resolved as (
    insert into transfer (hold_day, task_id, kind, account_id, balance, held, spent, funded, made_at)
    select $2, id, 3, account_id, held - charged, -held, charged, 0, $9 from mine
), done as (
    update task t
    set state = m.state, code = m.code, charged = m.charged, attempts = m.attempts, settled_at = $9
    from (
        select m.*, x.tid from mine m
        cross join lateral (select t.ctid as tid from task t where t.day = $2 and t.id = m.id limit 1) x
    ) m
    where t.day = $2 and t.ctid = m.tid
), stored as (
    insert into answer (day, id, account_id, seq, code, message, body, trail)
    select $2, id, account_id, seq, code, message, body, trail from mine where lane <> 0
), kept as (
    insert into answer_raw (day, id, account_id, body, price_date)
    select $2, id, account_id, raw, price_date from mine where lane <> 0 and raw is not null
), listed as (
    insert into ready (account_id, platform, seq, id, posted_at, tag, listed_at)
    select account_id, 1, seq, id, posted_at, tag, $9 from mine
    where lane <> 0 and not (id = any (array (select id from owed where kind = 2)))
), deliveries as (
    insert into delivery (day, task_id, account_id, kind, host, url, body, state, created_at, seq, posted_at, tag)
    select $2, m.id, m.account_id, o.kind, o.host, o.url, o.body, 0, $9, m.seq, m.posted_at, m.tag
    from mine m join owed o on o.id = m.id where m.lane <> 0
)
select id from mine
