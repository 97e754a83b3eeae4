-- What is remembered of tasks and webhooks, and for how long: attempts by day, deliveries slim once they ended, and an
-- account's tasks of a time range read from their ids (contract §3.10-3.12, §5.3).

-- Attempts by the day they were recorded on, as the other daily tables. A row says all that the errors endpoint answers,
-- since its delivery may be gone; the URL only of a failure.
alter table attempt rename to attempt_before;
alter table attempt_before rename constraint attempt_pkey to attempt_before_pkey;
create table attempt (
    day date not null, -- recorded on; the day it was made on, or a later one
    delivery_id bigint not null,
    made_at timestamptz not null,
    milliseconds int not null,
    status smallint, -- null: no answer came
    reply bytea, -- its first 2 KB, as they came
    error text, -- what went wrong, in words; null for a success
    account_id int not null,
    task_id uuid not null,
    kind smallint not null, -- as its delivery's
    url text, -- of a failure
    primary key (day, delivery_id, made_at),
    constraint failure_has_url check ((error is null) = (url is null))
) partition by range (day);
create index attempt_failed on attempt (account_id, made_at, delivery_id) where error is not null;

do $$
declare
    recorded date;
begin
    for recorded in select distinct (made_at at time zone 'UTC')::date from attempt_before loop
        execute format(
            'create table %I partition of attempt for values from (%L) to (%L)',
            'attempt_' || to_char(recorded, 'YYYYMMDD'), recorded, recorded + 1
        );
    end loop;
end $$;
insert into attempt
select (a.made_at at time zone 'UTC')::date, a.delivery_id, a.made_at, a.milliseconds, a.status, a.reply, a.error,
    d.account_id, d.task_id, d.kind, case when a.error is not null then d.url end
from attempt_before a join delivery d on d.id = a.delivery_id;
drop table attempt_before;

-- An ended delivery has no body: resending writes it again from the stored answer.
-- `collected`: its client has fetched the task, so no failure of the postback lists it any more.
alter table delivery drop constraint postback_has_body;
update delivery set body = null where state in (3, 4) and body is not null;
alter table delivery
    add constraint postback_has_body check ((body is not null) = (kind = 2 and state in (0, 1, 2))),
    add collected boolean not null default false;

-- Tasks of an account, posted from `since` until before `until`, in the order of posting or backwards; `skip` of them
-- left out, then `most`. No index serves this but the primary key: an id begins with its minute (of the day that is the
-- row's) and then its account, so each minute's tasks of an account lie together. The walk looks at the next id of
-- anybody's; where that is another account's it jumps to this one's place in that minute, or over it. So a minute costs
-- two look-ups however many tasks others have in it, a stretch without tasks none, and a page ends the walk.
-- One statement a day, on the day's own partition: on the parent each look-up would lock all of them. The day is named
-- all the same, since the primary key begins with it.
create function account_tasks(
    account int, since timestamptz, until timestamptz, backwards boolean, skip bigint, most bigint
) returns table (
    day date, id uuid, function smallint, state smallint, code int, charged bigint, posted_at timestamptz,
    settled_at timestamptz
) stable language plpgsql as $$
declare
    whose text := '-' || lpad(to_hex(account), 4, '0');
    first_of_all constant text := '-0000-0000-0000-000000000000';
    last_of_all constant text := '-ffff-ffff-ffff-ffffffffffff';
    first_of_mine text := whose || '-0000-0000-000000000000';
    last_of_mine text := whose || '-ffff-ffff-ffffffffffff';
    since_day date := (since at time zone 'UTC')::date;
    until_day date := (until at time zone 'UTC')::date;
    since_minute text := to_char(since at time zone 'UTC', 'YYYYMMDDHH24MI');
    until_minute text := to_char(until at time zone 'UTC', 'YYYYMMDDHH24MI');
    at_day date := case when backwards then until_day else since_day end;
    in_range constant text := 'posted_at >= $2 and posted_at < $3';
    counted bigint; -- tasks of the day, until the page is full
    before bigint; -- of them before the first minute of the page
    minutes text[]; -- of the page, MMDDHHMM
    given bigint;
begin
    while most > 0 and at_day between since_day and until_day loop
        if to_regclass(format('task_%s', to_char(at_day, 'YYYYMMDD'))) is not null then
            execute format($walk$
                with recursive walk as (
                    select null::uuid as id, $4::uuid as bound, 0::bigint as n, 0::bigint as passed
                    union all
                    select next.id, case
                            when (next.account %3$s $6) then (next.minute || $8)::uuid
                            else (next.minute || $7)::uuid
                        end, c.n, w.passed + c.n
                    from walk w
                    cross join lateral (
                        select t.id, left(t.id::text, 8) as minute, substr(t.id::text, 9, 5) collate "C" as account
                        from %1$I t
                        where t.day = $15 and t.id %2$s w.bound and t.id %3$s $5::uuid order by t.id %4$s limit 1
                    ) next
                    cross join lateral (
                        select case
                            when next.account <> $6 then 0
                            when $9 || next.minute in ($10, $11) then (
                                select count(*) from %1$I t
                                where t.day = $15
                                    and t.id between (next.minute || $12)::uuid and (next.minute || $13)::uuid and %5$s
                            )
                            else (
                                select count(*) from %1$I t
                                where t.day = $15
                                    and t.id between (next.minute || $12)::uuid and (next.minute || $13)::uuid
                            )
                        end as n
                    ) c
                    where w.passed < $1
                )
                select coalesce(max(passed), 0), min(passed - n) filter (where n > 0 and passed > $14),
                    array_agg(left(id::text, 8)) filter (where n > 0 and passed > $14)
                from walk
                $walk$,
                'task_' || to_char(at_day, 'YYYYMMDD'),
                case when backwards then '<' else '>' end,
                case when backwards then '>' else '<' end,
                case when backwards then 'desc' else 'asc' end,
                in_range
            ) into counted, before, minutes using
                skip + most, since, until,
                -- The bounds of the walk: the first and the last minute.
                ((case when backwards
                    then case when at_day = until_day then substr(until_minute, 5) else to_char(at_day, 'MMDD') || '2359' end
                    else case when at_day = since_day then substr(since_minute, 5) else to_char(at_day, 'MMDD') || '0000' end
                end) || case when backwards then last_of_all else first_of_all end)::uuid,
                ((case when backwards
                    then case when at_day = since_day then substr(since_minute, 5) else to_char(at_day, 'MMDD') || '0000' end
                    else case when at_day = until_day then substr(until_minute, 5) else to_char(at_day, 'MMDD') || '2359' end
                end) || case when backwards then first_of_all else last_of_all end)::uuid,
                whose,
                -- Beyond the whole minute; and up to this account's place in it.
                case when backwards then first_of_all else last_of_all end,
                case when backwards then last_of_mine else first_of_mine end,
                to_char(at_day, 'YYYY'), since_minute, until_minute, first_of_mine, last_of_mine, skip, at_day;
            if minutes is null then
                skip := skip - counted;
            else
                return query execute format($page$
                    select t.day, t.id, t.function, t.state, t.code, t.charged, t.posted_at, t.settled_at
                    from unnest($1::text[]) as m (minute)
                    cross join lateral (
                        select * from %1$I t
                        where t.day = $8 and t.id between (m.minute || $4)::uuid and (m.minute || $5)::uuid and %3$s
                        offset 0
                    ) t
                    order by t.posted_at %2$s, t.id %2$s offset $6 limit $7
                    $page$,
                    'task_' || to_char(at_day, 'YYYYMMDD'), case when backwards then 'desc' else 'asc' end, in_range
                ) using minutes, since, until, first_of_mine, last_of_mine, skip - before, most, at_day;
                get diagnostics given = row_count;
                most := most - given;
                skip := 0;
            end if;
        end if;
        at_day := at_day + case when backwards then -1 else 1 end;
    end loop;
end $$;
