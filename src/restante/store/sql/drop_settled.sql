-- Forget how many tasks ended in minutes before $1
delete from settled_minute where minute < $1
