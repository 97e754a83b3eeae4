-- Forget usage figures. $1 of days before this one
delete from usage where day < $1
