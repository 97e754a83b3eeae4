-- A row when the model of a batch is paused. $1 provider  $2 model
select 1 from lane where provider = $1 and model = $2 and paused limit 1
