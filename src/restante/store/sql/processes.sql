-- The processes that live, and how a provider did in their hands (flow/health.py). $1 the provider
select
    count(*) filter (where claims) as workers,
    count(*) filter (where claims and $1 = any (string_to_array(provider, ' '))) as serving,
    coalesce(sum((calls -> $1 ->> 'calls')::bigint), 0)::bigint as calls,
    coalesce(sum((calls -> $1 ->> 'failed')::bigint), 0)::bigint as failed,
    coalesce(max((calls -> $1 ->> 'rejected_at')::float8), 0)::float8 as rejected_at,
    coalesce(max((calls -> $1 ->> 'taken_at')::float8), 0)::float8 as taken_at
from worker where expires_at > now()
