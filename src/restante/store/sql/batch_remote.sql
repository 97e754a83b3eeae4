-- The provider's name of a batch. $1 batch
select remote from batch where id = $1
