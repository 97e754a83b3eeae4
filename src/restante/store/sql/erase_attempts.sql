-- Forget what receivers replied. $1 deliveries, deleted before in the same transaction: nobody records another attempt
delete from attempt where delivery_id = any ($1)
