-- Forget an account's webhooks: bodies, URLs, tags. $1 account. One that is just being made ends without a record.
delete from delivery where account_id = $1 returning id
