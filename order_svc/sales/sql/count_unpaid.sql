-- Count the units of a sale that await payment, and tell when the last of their orders expires.
-- Orders that await payment are few beside all there are, and have an index of their own.
--   $1 text  sku
SELECT coalesce(sum(quantity), 0) AS units, max(expires_at) AS last_expires_at
FROM orders
WHERE status = 'pending' AND sku = $1
