-- Orders whose units are not back in stock yet, oldest first.
--   $1 int  at most this many
SELECT order_no, r.sku, r.user_id, r.quantity, o.cancel_reason
FROM restore_outbox r JOIN orders o USING (order_no)
WHERE r.restored_at IS NULL
ORDER BY r.created_at, order_no
LIMIT $1
