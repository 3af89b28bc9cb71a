-- Lock the sales of those of the given orders that are pending, as lock_sales.sql does.
--   $1 text[]  order numbers
SELECT sku
FROM sales
WHERE sku IN (SELECT sku FROM orders WHERE order_no = ANY ($1) AND status = 'pending')
ORDER BY sku
FOR NO KEY UPDATE
