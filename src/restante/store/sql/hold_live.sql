-- Hold the money of live tasks of several accounts and lease them to this process at once.
-- $1 token  $2 day  $3 now  $4 ids  $5 accounts  $6 holds  $7 platform  $8 function
-- $9 how many live tasks the account may have at work  $10 what it may spend a day  $11 models  $12 their providers
-- $13 what all accounts may spend a day; then under lock_spending (9, 10 and 13: 0 is without limit)
-- The arrays are scalar subqueries so that it is not planned anew each time (see settle).
-- Returns whether the token's lease stands and the ids by their fate, judged in the order given: held; of paused
-- accounts; of paused models; beyond what the account may have at work; beyond a daily cap. The rest is not paid for.
-- Live tasks at work are counted under the account's row lock with a snapshot of that moment (live_at_work), so that
-- the count is exact over any number of processes. Caps are as in accept.sql.
with asked as materialized (
    select * from unnest((select $4::uuid[]), (select $5::int[]), (select $6::bigint[]), (select $9::int[]),
        (select $10::bigint[]), (select $11::text[]), (select $12::text[])) with ordinality as u (id, account_id, held, most, cap, model, provider, ord)
), me as materialized (
    select token from worker where token = $1 for key share
), payer as materialized (
    select id, balance, credit_limit, paused, today, today_posted + today_live as spent
    from account where id = any ((select $5::int[])::int[]) order by id for no key update
), everybody as materialized (
    select coalesce(sum(today_posted + today_live), 0) as spent from account where $13::bigint > 0 and today >= $2
), blocked as materialized (
    select a.id from asked a join payer p on p.id = a.account_id where p.paused
), halted as materialized (
    select a.id from asked a
    where exists (select from lane l where l.provider = a.provider and l.project = '' and l.model = a.model and l.paused)
), item as materialized (
    select a.*, row_number() over (partition by a.account_id order by a.ord) as nth
    from asked a where a.id not in (select id from blocked) and a.id not in (select id from halted)
), busy as materialized (
    select p.*, case when exists (select from item i where i.account_id = p.id and i.most > 0)
        then live_at_work(p.id) else 0 end as at_work
    from payer p
), crowded as materialized (
    select i.id from item i join busy b on b.id = i.account_id where i.most > 0 and b.at_work + i.nth > i.most
), judged as materialized (
    select x.*,
        p.credit_limit is null or x.running <= p.balance + p.credit_limit as paid_for,
        x.cap = 0 or x.running <= x.cap - case when p.today > $2 then x.cap when p.today = $2 then p.spent else 0 end
            as within
    from (
        select i.*, sum(i.held) over (partition by i.account_id order by i.ord) as running
        from item i where i.id not in (select id from crowded)
    ) x
    join busy p on p.id = x.account_id
), able as materialized (
    select j.*, sum(j.held) over (order by j.ord) as total from judged j where j.paid_for and j.within
), covered as materialized (
    select id, account_id, held, model, provider from able
    where exists (select from me) and ($13::bigint = 0 or total <= $13::bigint - (select spent from everybody))
), paid as (
    update account a
    set balance = a.balance - o.held, held = a.held + o.held,
        today = greatest(a.today, $2),
        today_posted = case when a.today >= $2 then a.today_posted else 0 end,
        today_live = case when a.today > $2 then 0 else o.held end + case when a.today >= $2 then a.today_live else 0 end
    from (select account_id, sum(held)::bigint as held from covered group by account_id) o
    where a.id = o.account_id and a.id = any ((select $5::int[])::int[])
), hold as (
    insert into transfer (hold_day, task_id, kind, account_id, balance, held, spent, funded, made_at)
    select $2, id, 2, account_id, -held, held, 0, 0, $3 from covered
), tasks as (
    insert into task (day, id, account_id, platform, function, state, held, posted_at, lane)
    select $2, id, account_id, $7, $8, 0, held, $3,
        (select l.id from lane l where l.provider = c.provider and l.project = '' and l.model = c.model)
    from covered c
), leased as (
    insert into queue (id, day, account_id, lane, turn, state, held, posted_at, token, attempts)
    select id, $2, account_id, 0, 0, 2, held, $3, $1, 1 from covered
)
select exists (select from me) as alive,
    array (select id from covered) as ids,
    array (select id from blocked) as blocked,
    array (select id from halted) as halted,
    array (select id from crowded) as crowded,
    array (
        select id from judged where not within
        union all select id from able where id not in (select id from covered)
    ) as capped
