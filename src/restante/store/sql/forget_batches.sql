-- Forget batches that ended before then. $1 when
delete from batch where state = 3 and ended_at < $1 returning id
