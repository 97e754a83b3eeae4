-- Tasks leased to a token that its process does not know of: the claim's answer was lost on the way, or running one
-- broke. $1 token  $2 ids that the process does hold. They are ready again, at the price of one lost lease.
update queue set state = 0, token = null, lost = lost + 1
where state = 2 and token = $1 and not (id = any ($2::uuid[])) returning lane
