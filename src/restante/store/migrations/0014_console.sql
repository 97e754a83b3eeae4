-- What the console shows that nothing recorded (docs/console.md).

-- How tasks ended, by minute: added once a second by each process that settles, from what it counted in memory, so that
-- settling itself writes nothing more. A killed process's last second may be missing: money is counted elsewhere.
create table settled_minute (
    minute timestamptz not null,
    account_id int not null,
    done int not null,
    failed int not null,
    primary key (minute, account_id)
) with (fillfactor = 50); -- its newest rows are updated in place once a second
