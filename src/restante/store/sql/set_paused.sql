-- Pause or resume an account. $1 login  $2 paused  $3 whose word it is: operator or owner. What the operator paused stays
-- the operator's. Returns whether that stopped the owner from resuming it; no row: there is no such account.
with found as materialized (
    select id, paused_by = 'operator' and $3 = 'owner' as of_operator from account where login = $1 for no key update
), changed as (
    update account a
    set paused = $2, paused_by = case when not $2 then null when f.of_operator then 'operator' else $3 end
    from found f where a.id = f.id and ($2 or f.of_operator is not true)
)
select of_operator is true and not $2 as stopped from found
