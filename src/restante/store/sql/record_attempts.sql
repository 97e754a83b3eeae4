-- Record what became of attempts, and what follows: done, parked until the next one, or failed for good.
-- $1 token  $2 delivery ids  $3 times  $4 milliseconds  $5 statuses  $6 replies  $7 errors (null: it succeeded)
-- $8 seconds until the next attempt (null: there is none)  $9 now, which names the day  $10 attempts recorded before
-- What the token no longer holds is passed over. Of a delivery that was resent during the attempt fewer are recorded by
-- now than its worker knew of: after a failure its schedule begins anew, at once.
-- The first failure of a postback lists its task in tasks_ready, unless its client has fetched it already; a late
-- success takes it off again; a pingback does neither (contract §12.28). Returns the ids recorded.
-- Parked by the database's clock, which promote_deliveries reads too. An ended delivery needs its body no more.
with item as materialized (
    select *
    from unnest(
        $2::bigint[], $3::timestamptz[], $4::int[], $5::smallint[], $6::bytea[], $7::text[], $8::float8[], $10::int[]
    ) as u (id, made_at, milliseconds, status, reply, error, pause, before)
), mine as materialized (
    update delivery d
    set state = case when i.error is null then 3 when d.attempts < i.before then 1 when i.pause is null then 4 else 1 end,
        run_at = case
            when i.error is null then null
            when d.attempts < i.before then now()
            else now() + make_interval(secs => i.pause)
        end,
        token = null, attempts = d.attempts + 1,
        body = case when i.error is null or (i.pause is null and d.attempts >= i.before) then null else d.body end
    from item i where d.id = i.id and d.state = 2 and d.token = $1
    returning d.id, d.task_id, d.account_id, d.kind, d.url, d.attempts, d.seq, d.posted_at, d.tag, d.collected,
        i.made_at, i.milliseconds, i.status, i.reply, i.error
), tried as (
    insert into attempt (
        day, delivery_id, made_at, milliseconds, status, reply, error, account_id, task_id, kind, url
    )
    select ($9::timestamptz at time zone 'UTC')::date, id, made_at, milliseconds, status, reply, error, account_id,
        task_id, kind, case when error is not null then url end
    from mine
), listed as (
    insert into ready (account_id, platform, seq, id, posted_at, tag, listed_at)
    select account_id, 1, seq, task_id, posted_at, tag, $9 from mine
    where kind = 2 and error is not null and attempts = 1 and not collected
    on conflict do nothing -- a resent one's, still listed
), late as materialized (
    select account_id, min(seq) as seq from mine where kind = 2 and error is not null and attempts = 1 and not collected
    group by account_id
), lowered as ( -- their places are of long ago: no mark may stand, or come to stand, above them (docs/adr/0003)
    insert into ready_mark as m (account_id, platform, seq, version, boundary, horizon)
    select account_id, 1, 0, 1, 0, pg_current_xact_id() from late order by account_id
    on conflict (account_id, platform) do update
        set seq = least(m.seq, (select l.seq from late l where l.account_id = m.account_id)), version = m.version + 1
), gone as (
    delete from ready r using mine m
    where m.kind = 2 and m.error is null and r.account_id = m.account_id and r.platform = 1 and r.seq = m.seq
)
select id from mine
