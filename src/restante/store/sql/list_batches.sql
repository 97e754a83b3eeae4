-- Batches, newest first. $1 how many  $2 only those that are not over
select name, provider, project, model, state, remote, outcome, tasks, answered, failed, fell_back, saved,
    made_at, deadline, ended_at
from batch where not $2 or state < 3 order by id desc limit $1
