-- Forget the prompts, answers and tags of an account's finished tasks of one day; the slim rows stay for the audit.
-- $1 day  $2 account. Returns how many tasks had any.
-- An id begins with its minute and its account, so that the key finds them: one look for each minute of the day.
with span as materialized (
    select (minute || '-' || account || '-0000-0000-000000000000')::uuid as first,
        (minute || '-' || account || '-ffff-ffff-ffffffffffff')::uuid as last
    from (
        select to_char($1::date + n * interval '1 minute', 'MMDDHH24MI') as minute, lpad(to_hex($2::int), 4, '0') as account
        from generate_series(0, 1439) n
    ) m
), found as materialized (
    select t.id, t.tag from span s
    cross join lateral (
        select id, tag from task where day = $1 and id between s.first and s.last and account_id = $2 and state <> 0
    ) t
), answers as (
    delete from answer a using found f where a.day = $1 and a.id = f.id returning a.id
), requests as (
    delete from task_request r using found f where r.day = $1 and r.id = f.id returning r.id
), tags as (
    update task t set tag = null from found f where t.day = $1 and t.id = f.id and f.tag is not null returning t.id
)
select count(*)::int from (select id from answers union select id from requests union select id from tags) e
