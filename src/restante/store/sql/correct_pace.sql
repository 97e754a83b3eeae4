-- Put a clock right: permits that were not used come back, tokens beyond the estimate are a debt.
-- $1 provider  $2 project  $3 model  $4 seconds of calls  $5 seconds of tokens (both to add; negative: to give back)
update pace set calls_until = calls_until + $4::float8, tokens_until = tokens_until + $5::float8
where provider = $1 and project = $2 and model = $3
