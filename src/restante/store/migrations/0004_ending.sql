-- Tasks that wait for money, and the ends that are not answers: cancelling and the deadline.

-- Parked without a time: below the account's credit limit (contract §12.7). A top-up wakes them by this index.
create index queue_unpaid on queue (account_id) where state = 1 and run_at = 'infinity';

-- The deadline looks for the oldest; cancelling reads an account's whole queue, which is rare.
create index queue_posted on queue (posted_at);

-- Listings end after three days. They come in the order of time, so block ranges find the old ones at no cost to settling.
create index ready_listed on ready using brin (listed_at) with (pages_per_range = 32);
