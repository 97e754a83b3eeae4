-- Pacing: what a provider's projects may be asked now (contract §12.26). A bucket is a provider's project (the quota of
-- one key, named by a digest of it) and model; model '' is the whole project.

-- What must outlive a crash of the server: pauses (a day's quota, a rejected key) and quotas that the provider named.
create table bucket (
    provider text not null,
    project text not null,
    model text not null,
    paused_until timestamptz, -- infinity: until somebody lifts it
    reason text,
    calls int check (calls > 0), -- a minute, as are tokens
    tokens int check (tokens > 0),
    learned_at timestamptz,
    primary key (provider, project, model)
);

-- How far the calls so far have used up the rate, in epoch seconds of the database's clock. Unlogged: written for every
-- few calls, and worth less than a second's calls after a crash.
create unlogged table pace (
    provider text not null,
    project text not null,
    model text not null,
    calls_until float8 not null default 0,
    tokens_until float8 not null default 0,
    primary key (provider, project, model)
) with (fillfactor = 40);

-- Calls that were paid for and gave nothing are bounded; those that the provider put off (tries) are not.
alter table queue add wasted smallint not null default 0;
