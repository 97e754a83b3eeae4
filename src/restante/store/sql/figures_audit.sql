-- The newest audit that came to its end (store/figures.py): how long ago, and what it found.
select extract(epoch from now() - ended_at)::float8 as seconds, differences from audit_verdict
where ended_at is not null order by id desc limit 1
