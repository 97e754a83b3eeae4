-- From where a listing of tasks_ready has to look: below `seq` nothing of the account is listed, nor ever will be
-- (docs/adr/0003). Without it, while somebody's old snapshot keeps collected rows' index entries, every listing reads all
-- of them. An account without a row has no mark.
create table ready_mark (
    account_id int not null,
    platform smallint not null,
    seq bigint not null,
    version bigint not null, -- counts changes: a mark moves only if nobody else has touched it meanwhile
    boundary bigint not null, -- what the mark may rise to, once every transaction
    horizon xid8 not null, -- up to this one has ended
    primary key (account_id, platform)
) with (fillfactor = 10); -- room for the versions that an old snapshot keeps: they need no index entries

-- Listings that nobody collects make no dead rows, hence no vacuum, which block ranges were summarised by: looking for
-- listings whose time is over read everything since.
alter index ready_listed set (autosummarize = on);
