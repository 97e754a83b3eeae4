-- Usage figures and health: what user_data and status answer (contract §3.7, §3.9).

-- Calls of an account by endpoint and UTC day. Every API process adds its own once a second; of minutes only the newest
-- is kept. The day comes first, so that sweeping old days is a range of the index too.
create table usage (
    day date not null,
    account_id int not null,
    endpoint text not null, -- core/allowance.py
    calls bigint not null, -- of the day
    minute timestamptz not null, -- the newest that had calls
    minute_calls bigint not null,
    primary key (day, account_id, endpoint)
) with (fillfactor = 50); -- its rows are updated in place once a second

-- What a process says of itself with its heartbeat.
alter table worker
    add provider text not null default '', -- whose models it asks
    add claims boolean not null default false, -- it runs queued tasks and webhooks; API processes run live tasks only
    add calls jsonb not null default '{}'; -- how its provider did of late (flow/health.py)
