-- Lock the sales of those of the given orders that have this status, as lock_sales.sql does.
--   $1 text[]  order numbers
--   $2 text    status
SELECT sku
FROM sales
WHERE sku IN (SELECT sku FROM orders WHERE order_no = ANY ($1) AND status = $2)
ORDER BY sku
FOR NO KEY UPDATE
