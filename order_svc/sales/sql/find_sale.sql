-- One sale, and its terms as they were registered, if they were changed since.
--   $1 text  sku
SELECT sku, title, total, unit_price_minor, currency, purchase_limit, starts_at, ends_at,
       payment_window, rebuy_allowed, buckets, epoch,
       coalesce(first_title, title) AS registered_title,
       coalesce(first_total, total) AS registered_total,
       coalesce(first_unit_price_minor, unit_price_minor) AS registered_unit_price_minor,
       coalesce(first_currency, currency) AS registered_currency
FROM sales
WHERE sku = $1
