-- Nobody calls a bucket for some time, and the quotas that the provider named are kept.
-- $1 provider  $2 project  $3 model ('': the whole project)  $4 seconds  $5 reason
-- $6 calls a minute  $7 tokens a minute (null: not named)
insert into bucket as b (provider, project, model, paused_until, reason, calls, tokens, learned_at)
values (
    $1, $2, $3, now() + make_interval(secs => $4::float8), $5, $6::int, $7::int,
    case when num_nonnulls($6::int, $7::int) > 0 then now() end
)
on conflict (provider, project, model) do update
set paused_until = greatest(b.paused_until, excluded.paused_until), reason = excluded.reason,
    calls = coalesce(excluded.calls, b.calls), tokens = coalesce(excluded.tokens, b.tokens),
    learned_at = coalesce(excluded.learned_at, b.learned_at)
