-- Listings whose time is over, some at a time. $1 listed before  $2 how many at the most
delete from ready where ctid = any (array (select ctid from ready where listed_at < $1 limit $2)) returning id
