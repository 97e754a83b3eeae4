-- An audit ended. $1 its id  $2 now  $3 accounts and $4 transfers it went over  $5 differences  $6 the first of them
update audit_verdict set ended_at = $2, accounts = $3, transfers = $4, differences = $5, said = $6 where id = $1
