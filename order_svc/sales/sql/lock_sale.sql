-- Lock a sale against its orders and other changes; nothing if the sku is not registered.
--   $1 text  sku
SELECT sku
FROM sales
WHERE sku = $1
FOR NO KEY UPDATE
