-- Within a transaction: it reads only, and each of its statements ends after $1 (milliseconds, as text). Lists for people
-- are sorted and joined as the planner likes: what our role forbids it is about queues (store/schema.py).
select set_config('transaction_read_only', 'on', true), set_config('statement_timeout', $1, true),
    set_config('enable_sort', 'on', true)
