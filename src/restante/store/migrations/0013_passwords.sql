-- A changed password may leave the one before valid for a while, so that an account's clients can change one by one.
alter table account
    add old_secret bytea,
    add old_secret_until timestamptz,
    add constraint account_old_secret_ends check ((old_secret is null) = (old_secret_until is null));
