-- One sale.
--   $1 text  sku
SELECT sku, title, total, unit_price_minor, currency, purchase_limit, starts_at, ends_at,
       payment_window, rebuy_allowed, epoch
FROM sales
WHERE sku = $1
