-- Models that unfinished tasks wait for. $1 their provider
select l.model, count(*) as tasks from queue q join lane l on l.id = q.lane
where l.provider = $1 group by l.model order by l.model
