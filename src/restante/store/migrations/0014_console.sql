-- What the console shows that nothing recorded (docs/console.md).

-- Which provider's model a task is for: the number of its lane, four bytes of a row that is written anyway. Tasks from
-- before have none, and are found by everything but their model.
alter table task add lane int;

-- Who ran a task that has an answer, and how long what took (core/task.py, Trail), as JSON.
alter table answer add trail bytea;

-- How tasks ended, by minute: added once a second by each process that settles, from what it counted in memory, so that
-- settling itself writes nothing more. A killed process's last second may be missing: money is counted elsewhere.
create table settled_minute (
    minute timestamptz not null,
    account_id int not null,
    done int not null,
    failed int not null,
    primary key (minute, account_id)
) with (fillfactor = 50); -- its newest rows are updated in place once a second
