-- Pause or resume a model. $1 lane  $2 paused
update lane set paused = $2 where id = $1
