-- Whether a sale has ever had an order.
--   $1 text  sku
SELECT EXISTS (SELECT FROM orders WHERE sku = $1) AS has_orders
