-- What is known of buckets. $1 providers  $2 seconds that a quota which the provider named is believed
-- `seconds`: how long it is paused still; null when it is not. `shut`: the pause is of the whole project.
-- Infinity is from a restante which knew no end of it, and PostgreSQL before 17 subtracts nothing from it.
select provider, project, model, reason, coalesce(model = '' and paused_until > now(), false) as shut,
    case when paused_until > now()
        then extract(epoch from paused_until)::float8 - extract(epoch from now())::float8 end as seconds,
    case when learned_at > now() - make_interval(secs => $2::float8) then calls end as calls,
    case when learned_at > now() - make_interval(secs => $2::float8) then tokens end as tokens
from bucket where provider = any ($1)
