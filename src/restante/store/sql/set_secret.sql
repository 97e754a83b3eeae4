-- The password before stays valid for so many hours; 0 ends it, and any older one. $1 login  $2 secret  $3 hours
update account set secret = $2,
    old_secret = case when $3::float8 > 0 then secret end,
    old_secret_until = case when $3::float8 > 0 then now() + make_interval(secs => $3 * 3600) end
where login = $1 returning id
