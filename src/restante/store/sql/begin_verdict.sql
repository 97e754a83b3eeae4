-- An audit begins. $1 now  $2 whether of every day
insert into audit_verdict (begun_at, whole) values ($1, $2) returning id
