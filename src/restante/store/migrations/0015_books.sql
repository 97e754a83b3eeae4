-- What the console's Ledger and Deliveries ask, and the audit's last words.

-- An account's statement is in the order in which its transfers were made, which no key has: ids are in that of posting.
-- It costs settling an entry a task: 1.7 us of PostgreSQL's CPU of 60, and 57 bytes of WAL of 2,750 (measured).
create index transfer_of_account on transfer (account_id, made_at);

-- Money that came in, of all accounts. Holds and resolutions, which are nearly all rows, are in neither this nor pay for it.
create index transfer_money_in on transfer (made_at) where kind = 1;

-- Webhooks that were given up, to be seen and sent again. Those that succeed never enter it.
create index delivery_given_up on delivery (account_id, id) where state = 4;

-- When the books were audited, and what was found. Without an end: it is still going on, or its process died.
create table audit_verdict (
    id bigint primary key generated always as identity,
    begun_at timestamptz not null,
    ended_at timestamptz,
    whole boolean not null, -- every day; else without those whose answers are over
    accounts bigint,
    transfers bigint,
    differences int,
    said text[], -- the first of them
    constraint audit_ended_with_verdict check (
        num_nonnulls(ended_at, accounts, transfers, differences, said) in (0, 5)
    )
);
