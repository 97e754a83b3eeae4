-- What a provider replied, byte for byte, beside the answer made of it; by posted day and dropped with it. A table of
-- its own, so that collecting answers reads no more than it did.
create table answer_raw (
    day date not null,
    id uuid not null,
    account_id int not null,
    body bytea not null,
    price_date date, -- of the prices that the charge was reckoned with, where they have one
    primary key (day, id)
) partition by range (day);
alter table answer_raw alter body set storage external; -- compressed by us already

-- Every day that answers are kept for: tasks of these days are settled yet.
do $$
declare found record;
begin
    for found in
        select right(c.relname, 8) as name, to_date(right(c.relname, 8), 'YYYYMMDD') as day
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'answer'::regclass
    loop
        execute format('create table answer_raw_%s partition of answer_raw for values from (%L) to (%L)',
            found.name, found.day, found.day + 1);
    end loop;
end $$;
