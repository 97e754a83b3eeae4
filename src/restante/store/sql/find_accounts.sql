-- $1 logins. A row for each in any case: who asks for a login that nobody has shall wait as long as who asks for one of
-- ours.
select coalesce(a.id, 0) as id, asked.login, coalesce(a.secret, ''::bytea) as secret,
    case when a.old_secret_until > now() then a.old_secret else ''::bytea end as old_secret,
    coalesce(a.limits, '{}')::text as limits
from unnest($1::text[]) asked (login) left join account a on a.login = asked.login
