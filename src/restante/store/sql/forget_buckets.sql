-- Buckets that nothing is known of any more: paused long ago, or of keys that were taken away. $1 seconds
-- Until infinity: a project that was shut by a restante which knew no end of it.
delete from bucket
where coalesce(learned_at, '-infinity') < now() - make_interval(secs => $1::float8)
    and (paused_until < now() - make_interval(secs => $1::float8) or paused_until = 'infinity')
