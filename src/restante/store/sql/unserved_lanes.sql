-- Providers with unfinished tasks other than those given, for the operator's log. $1 the providers served
select l.provider, count(*) as tasks from queue q join lane l on l.id = q.lane
where not l.provider = any ($1) group by l.provider order by l.provider
