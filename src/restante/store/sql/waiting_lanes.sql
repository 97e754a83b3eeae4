-- Lanes with tasks ready to be claimed, paused ones aside. $1 the providers that the worker serves
select l.id, l.provider, l.model from lane l
where l.provider = any ($1) and not l.paused and exists (select from queue q where q.state = 0 and q.lane = l.id)
order by l.id
