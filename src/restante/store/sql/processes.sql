-- The processes that live, and how the provider did in their hands (flow/health.py). $1 the provider
select
    count(*) filter (where claims) as workers,
    count(*) filter (where claims and provider = $1) as serving,
    coalesce(sum((calls ->> 'calls')::bigint) filter (where provider = $1), 0)::bigint as calls,
    coalesce(sum((calls ->> 'failed')::bigint) filter (where provider = $1), 0)::bigint as failed,
    coalesce(max((calls ->> 'rejected_at')::float8) filter (where provider = $1), 0)::float8 as rejected_at,
    coalesce(max((calls ->> 'taken_at')::float8) filter (where provider = $1), 0)::float8 as taken_at
from worker where expires_at > now()
