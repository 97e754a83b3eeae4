-- $1 day  $2 the live function. What accounts spent on the day they call today, against the tasks of that day; one row for each that differs.
-- An account whose today is before a day that has tasks of it differs, too.
select a.id, a.login, a.today, a.today_posted, a.today_live, coalesce(t.posted, 0) as posted, coalesce(t.live, 0) as live
from account a left join (
    select account_id,
        coalesce(sum(case when state = 0 then held else charged end) filter (where function <> $2), 0)::bigint as posted,
        coalesce(sum(case when state = 0 then held else charged end) filter (where function = $2), 0)::bigint as live
    from task where day = $1 group by account_id
) t on t.account_id = a.id
where case
    when a.today = $1 then (a.today_posted, a.today_live) is distinct from (coalesce(t.posted, 0), coalesce(t.live, 0))
    else t.account_id is not null and coalesce(a.today < $1, true)
end
