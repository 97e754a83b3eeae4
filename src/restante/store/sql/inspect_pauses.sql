-- Models whose calls are put off now, and projects whose key is rejected (model ''), with what was said.
select provider, project, model, coalesce(reason, '') as reason, extract(epoch from paused_until - now())::float8 as seconds
from bucket where paused_until > now() order by paused_until desc
