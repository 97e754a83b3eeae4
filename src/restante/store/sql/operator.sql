-- The login of the operator's account; null before the first start.
select operator from installation
