-- Give a sale its next epoch; returns it, or nothing if the sku is not registered.
--   $1 text  sku
UPDATE sales
SET epoch = epoch + 1
WHERE sku = $1
RETURNING epoch
