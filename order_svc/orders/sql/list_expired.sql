-- Pending orders whose payment time is over, oldest first.
--   $1 int       at most this many
--   $2 interval  only those for which it has been over for so long
SELECT order_no
FROM orders
WHERE status = 'pending' AND expires_at <= now() - $2::interval
ORDER BY expires_at
LIMIT $1
