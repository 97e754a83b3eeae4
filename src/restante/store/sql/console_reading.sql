-- Within a transaction that reads: each of its statements ends after $1 (milliseconds, as text).
-- Lists for people are of any size and condition, so that each is planned for its own values and as the planner likes:
-- what our role forbids it is about queues (store/schema.py).
select set_config('statement_timeout', $1, true),
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('enable_sort', 'on', true), set_config('enable_seqscan', 'on', true)
