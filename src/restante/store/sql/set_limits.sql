-- Change limits of an account's own. $1 login  $2 limits by name; null takes one back. Returns those it has now.
update account set limits = jsonb_strip_nulls(limits || $2::jsonb) where login = $1 returning limits::text
