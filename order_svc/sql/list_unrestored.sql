-- Orders whose units are not back in stock yet, oldest first.
--   $1 int  at most this many
SELECT order_no, sku, user_id, quantity
FROM restore_outbox
WHERE restored_at IS NULL
ORDER BY created_at, order_no
LIMIT $1
