-- Pending orders whose payment time is over, oldest first.
--   $1 int  at most this many
SELECT order_no
FROM orders
WHERE status = 'pending' AND expires_at <= now()
ORDER BY expires_at
LIMIT $1
