-- Tasks leased to workers that are gone go back to the queue. $1 tokens  $2 lost leases to add. Returns their lanes.
update queue set state = 0, token = null, lost = lost + $2::smallint where state = 2 and token = any ($1) returning lane
