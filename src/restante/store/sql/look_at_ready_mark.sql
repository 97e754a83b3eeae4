-- An account's mark in tasks_ready, and whether it is worth moving (docs/adr/0003). $1 account  $2 platform
-- $3 how far it must be able to rise
-- No row: nothing to do. `version` is null without a mark. `seq`: where the mark may be by what this snapshot shows: all
-- places below `boundary` were given to transactions up to `horizon`, which have ended, so that what is not listed here
-- was collected. `boundary`: the next one, a place given already.
-- A horizon that is yet to come is of another server, whose dump this database was restored from: it is made anew.
with mark as materialized (
    select m.seq, m.version, m.boundary, pg_snapshot_xmin(s) > m.horizon as ended, pg_snapshot_xmax(s) <= m.horizon as elsewhere
    from ready_mark m, pg_current_snapshot() s
    where m.account_id = $1 and m.platform = $2
), listed as materialized (
    select min(seq) as first from (
        select seq from ready
        where account_id = $1 and platform = $2 and seq >= coalesce((select m.seq from mark m), 0)
        order by seq limit 1
    ) f
)
select m.version, s.last_value as boundary, coalesce(case when m.ended then least(l.first, m.boundary) else m.seq end, 0) as seq
from ready_seq s
cross join listed l
left join mark m on true
where least(l.first, s.last_value) - coalesce(m.seq, 0) >= $3 and (m.version is null or m.ended or m.elsewhere)
