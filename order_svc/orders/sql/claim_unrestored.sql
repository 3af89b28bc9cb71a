-- Claim orders whose units are not back in stock yet, those that have been due longest first.
--   $1 int       at most this many
--   $2 interval  for how long they are the caller's
WITH due AS (
    SELECT order_no
    FROM restore_outbox
    WHERE restored_at IS NULL AND due_at <= now()
    ORDER BY due_at
    LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE restore_outbox
SET due_at = now() + $2::interval
FROM due JOIN orders USING (order_no)
WHERE restore_outbox.order_no = due.order_no
RETURNING restore_outbox.order_no, restore_outbox.sku, restore_outbox.user_id,
          restore_outbox.quantity, cancel_reason
