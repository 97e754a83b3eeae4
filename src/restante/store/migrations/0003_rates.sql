-- Rates, limits of an account's own, and answers kept for repeated POSTs (contract §12.6, §12.21, §12.24).

-- An account's own limits by name (core/allowance.py); what is not named is the installation's.
alter table account add limits jsonb not null default '{}' check (jsonb_typeof(limits) = 'object');

-- Calls taken in a minute of the database's clock, by the blocks that API processes reserve. Unlogged: it is worth
-- nothing a minute later, and after a crash of the server the windows begin anew.
create unlogged table rate_window (
    account_id int not null,
    endpoint text not null,
    minute timestamptz not null,
    taken int not null, -- beyond the limit by what the last block could not have
    primary key (account_id, endpoint, minute)
) with (fillfactor = 40);

-- Live tasks at work: lane 0 is theirs.
create index queue_live on queue (account_id) where lane = 0 and state = 2;

-- How many live tasks of an account are at work. Volatile, hence with a snapshot of its own, taken when it is called: a
-- statement that calls it after locking the account's row counts what was committed while it waited for the lock.
create function live_at_work(account int) returns int volatile language plpgsql as $$
begin
    return (select count(*) from queue where account_id = account and lane = 0 and state = 2);
end $$;

create table idempotency (
    account_id int not null,
    key text not null,
    body_hash bytea not null,
    answer bytea not null, -- as store/packing.py writes it
    made_at timestamptz not null,
    primary key (account_id, key)
);
alter table idempotency alter answer set storage external; -- compressed by us already
create index idempotency_made_at on idempotency (made_at);
