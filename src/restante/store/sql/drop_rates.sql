-- Windows that are over are forgotten, with five minutes of grace. Returns nothing.
delete from rate_window where minute < now() - interval '5 minutes'
