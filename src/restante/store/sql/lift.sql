-- A project may be called again. $1 provider  $2 project
delete from bucket where provider = $1 and project = $2 and model = '' returning project
