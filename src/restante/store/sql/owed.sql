-- What is still to be done: tasks to be run, webhooks to be sent.
select (select count(*) from queue)::int as tasks, (select count(*) from delivery where state < 3)::int as deliveries
