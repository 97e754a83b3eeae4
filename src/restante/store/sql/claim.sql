-- Lease the next tasks of a lane to a worker, fairest turn first.
-- $1 the worker's token  $2 lane  $3 how many at the most
-- The key share on the worker's row makes reaping wait for this claim, so that no row is leased to a worker that
-- is gone. The lane's own turn is moved by whoever gets its row; it may lag by one claim.
-- Tasks of an account that owes more than its credit limit, or is paused, are parked until a top-up or until it is
-- resumed, before they cost the provider anything. That is decided under the account's lock, so that neither can pass
-- unseen. Of a paused lane nothing is leased.
with me as materialized (
    select token from worker where token = $1 for key share
), picked as materialized (
    select q.ctid, q.turn, q.account_id from queue q
    where q.state = 0 and q.lane = $2 and exists (select from me)
        and not exists (select from lane where id = $2 and paused)
    order by q.turn, q.id limit $3 for update skip locked
), waiting as materialized (
    select a.id from account a
    where a.id = any (array (select distinct account_id from picked)) and (a.balance < -a.credit_limit or a.paused) and $2 <> 0
    order by a.id for no key update
), parked as (
    update queue q set state = 1, run_at = 'infinity'
    where q.ctid = any (array (select p.ctid from picked p where p.account_id in (select id from waiting)))
), mine as (
    update queue q set state = 2, token = $1, attempts = least(q.attempts + 1, 32767)
    where q.ctid = any (array (select p.ctid from picked p where p.account_id not in (select id from waiting)))
    returning q.id, q.day, q.account_id, q.lost, q.tries, q.wasted, q.posted_at
), moved as (
    update lane l set turn = p.turn from (select max(turn) as turn from picked) p
    where l.id = (select id from lane where id = $2 for update skip locked) and l.turn < p.turn
)
select m.id, m.day, m.account_id, m.lost, m.tries, m.wasted, m.posted_at, r.request
from mine m
left join lateral (select request from task_request r where r.day = m.day and r.id = m.id limit 1) r on true
