-- Webhooks: what is owed to clients' servers, every attempt to bring it, and what they are signed with.
-- No foreign keys, as everywhere (0001).

create table delivery (
    id bigint primary key generated always as identity,
    day date not null, -- of its task
    task_id uuid not null,
    account_id int not null,
    kind smallint not null check (kind between 1 and 2), -- 1 pingback, 2 postback
    host text collate "C" not null, -- host:port, what the cap on calls in flight counts
    url text not null, -- $id and $tag replaced, encoded: ready to call
    body bytea, -- of a postback: task_get's envelope, gzip
    state smallint not null, -- 0 ready, 1 parked until run_at, 2 leased by token, 3 done, 4 failed
    run_at timestamptz,
    token bigint,
    attempts smallint not null default 0, -- recorded ones
    created_at timestamptz not null,
    seq bigint not null, -- with posted_at and tag, the task's row in ready, should the first attempt fail
    posted_at timestamptz not null,
    tag text,
    unique (task_id, kind), -- hence `webhook-id` may be made of these two
    constraint delivery_state check (
        case state
            when 0 then num_nonnulls(run_at, token) = 0
            when 1 then run_at is not null and token is null
            when 2 then token is not null and run_at is null
            when 3 then num_nonnulls(run_at, token) = 0
            when 4 then num_nonnulls(run_at, token) = 0
            else false
        end
    ),
    constraint postback_has_body check ((kind = 2) = (body is not null))
) with (fillfactor = 80);
alter table delivery alter body set storage external; -- compressed by us already
create index delivery_ready on delivery (host, account_id, id) where state = 0;
create index delivery_parked on delivery (run_at) where state = 1;
create index delivery_leased on delivery (token) where state = 2;

create table attempt (
    delivery_id bigint not null,
    made_at timestamptz not null,
    milliseconds int not null,
    status smallint, -- null: no answer came
    reply bytea, -- its first 2 KB, as they came
    error text, -- what went wrong, in words; null for a success
    primary key (delivery_id, made_at)
);

-- The newest two of an account are live: whoever knows either of them verifies our signatures.
create table webhook_secret (
    account_id int not null,
    generation int not null,
    secret bytea not null,
    created_at timestamptz not null default now(),
    primary key (account_id, generation)
);
