-- Claim those of the given orders whose units are not back in stock yet and not claimed.
--   $1 text[]    order numbers
--   $2 interval  for how long they are the caller's
-- Returns the numbers claimed now.
WITH due AS (
    SELECT order_no
    FROM restore_outbox
    WHERE order_no = ANY ($1) AND restored_at IS NULL AND due_at <= now()
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE restore_outbox
SET due_at = now() + $2::interval
FROM due
WHERE restore_outbox.order_no = due.order_no
RETURNING restore_outbox.order_no
