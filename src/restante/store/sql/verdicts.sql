-- The newest audits. $1 how many
select id, begun_at, ended_at, whole, accounts, transfers, differences, said from audit_verdict order by id desc limit $1
