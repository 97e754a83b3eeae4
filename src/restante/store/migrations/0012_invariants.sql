-- What the database itself refuses (docs/invariants.md).

-- I5. Transfers cannot be emptied away either. Such a trigger is of one table: each day gets its own with its partition
-- (store/schema.py), those that are there get theirs here.
do $$
declare one regclass;
begin
    for one in select 'transfer'::regclass union all select inhrelid from pg_inherits where inhparent = 'transfer'::regclass loop
        execute format('create or replace trigger transfer_is_kept before truncate on %s execute function refuse_change()', one);
    end loop;
end $$;

-- I7. A final task stays as it ended. After the update, since a trigger before it would lock each settled row once more;
-- with a condition, since settling changes unfinished ones and shall not pay for a function.
create function refuse_second_end() returns trigger language plpgsql as $$
begin
    raise exception 'task % is final and stays as it ended', old.id using errcode = 'restrict_violation';
end $$;
create trigger task_ends_once after update on task for each row
    when (
        old.state <> 0 and (old.id, old.account_id, old.state, old.held, old.charged, old.code, old.settled_at)
            is distinct from (new.id, new.account_id, new.state, new.held, new.charged, new.code, new.settled_at)
    )
    execute function refuse_second_end();
