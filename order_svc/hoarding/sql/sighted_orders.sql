-- The orders of a sale that were placed, with where they were reserved from.
--   $1 text  sku   $2 int  at most so many
SELECT o.order_no, o.user_id, o.quantity, o.status, s.address, s.fingerprint
FROM orders o
LEFT JOIN order_sightings s USING (order_no)
WHERE o.sku = $1 AND o.status <> 'rejected'
ORDER BY o.order_no
LIMIT $2
