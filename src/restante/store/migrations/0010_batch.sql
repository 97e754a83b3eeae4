-- Batches: tasks that a provider answers later at a lower price. A task in a batch is a parked queue row that knows its
-- batch; when its time comes (run_at) it is made ready for a direct call as any parked row, whoever is dead by then.
create table batch (
    id bigint primary key generated always as identity,
    name text not null unique, -- ours, told to the provider: by it a batch is found whose making nobody saw end
    provider text not null,
    project text not null,
    model text not null,
    state smallint not null default 0 check (state between 0 and 3), -- 0 gathered, 1 asked for, 2 running, 3 over
    remote text, -- the provider's name of it
    file text, -- the provider's name of its uploaded requests
    outcome text, -- how it ended, or why it is being ended
    tasks int not null,
    answered int not null default 0,
    failed int not null default 0,
    fell_back int not null default 0, -- tasks left to direct calls
    saved bigint not null default 0, -- nano-dollars less than direct calls would have cost
    made_at timestamptz not null default now(),
    deadline timestamptz not null, -- then it is cancelled
    asked_at timestamptz,
    asks smallint not null default 0,
    ended_at timestamptz,
    looks int not null default 0,
    look_at timestamptz not null default now(),
    token bigint, -- the worker that looks after it now
    constraint batch_running_has_name check (state <> 2 or remote is not null)
);
create index batch_open on batch (look_at) where state < 3;

-- 0: gathering for a batch; null: in none.
alter table queue add batch bigint;
create index queue_batch on queue (batch, lane, posted_at) where state = 1 and batch is not null;

-- What a task's batch saved its account, nano-dollars; null: it was called directly.
alter table task add batch_saved bigint;
