-- tasks_ready: the oldest finished, uncollected tasks. $1 account  $2 platform  $3 how many at the most  $4 listed since
-- An account that owes more than its credit limit is shown nothing until it has topped up.
-- It looks from the account's mark on, of this very snapshot: whatever lowers a mark is seen together with why.
select id, posted_at, tag from ready
where account_id = $1 and platform = $2 and listed_at >= $4
    and seq >= coalesce((select m.seq from ready_mark m where m.account_id = $1 and m.platform = $2), 0)
    and not exists (select from account where id = $1 and balance < -credit_limit)
order by seq limit $3
