-- Delete a delivery that the endpoint has acknowledged; the order's next one is due at once.
--   $1 bigint  its id
-- It does not matter who has claimed it: it is delivered.
WITH finished AS (
    DELETE FROM webhook_deliveries WHERE id = $1 RETURNING endpoint, order_no, event_id
)
UPDATE webhook_deliveries
SET due_at = now()
WHERE claimed_until IS NULL AND id = (
    SELECT later.id
    FROM finished JOIN webhook_deliveries later USING (endpoint, order_no)
    WHERE later.event_id > finished.event_id AND later.dead_at IS NULL
    ORDER BY later.event_id
    LIMIT 1)
