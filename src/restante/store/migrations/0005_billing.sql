-- Daily caps, duplicate limits and pausing (contract §12.30).

-- What an account's tasks of the UTC day `today` cost: the charges of the settled ones and the holds of the open ones.
-- In nano-dollars, by function. Kept by the updates of its row that move money, so that it costs no row of its own.
alter table account
    add today date,
    add today_posted bigint not null default 0, -- task_post
    add today_live bigint not null default 0,
    add paused boolean not null default false; -- its queued tasks wait, its live tasks are refused
update account a set today = t.day, today_posted = t.posted, today_live = t.live
from (
    select distinct on (account_id) account_id, day,
        coalesce(sum(case when state = 0 then held else charged end) filter (where function <> 612), 0)::bigint as posted,
        coalesce(sum(case when state = 0 then held else charged end) filter (where function = 612), 0)::bigint as live
    from task group by account_id, day order by account_id, day desc
) t
where t.account_id = a.id;

-- A paused lane is claimed by nobody, and its model refuses live tasks.
alter table lane add paused boolean not null default false;

-- How many tasks with one fingerprint an account posted in a clock hour: counted only where it has a limit of duplicates.
create table fingerprint (
    account_id int not null,
    digest bytea not null, -- of what goes to the model
    hour timestamptz not null,
    posted int not null,
    primary key (account_id, digest, hour)
) with (fillfactor = 80);
create index fingerprint_hour on fingerprint (hour);
