-- Record a failed attempt: try again later, or give up.
--   $1 bigint       the delivery        $2 timestamptz  the caller's claim, its claimed_until
--   $3 float8       try again after so many seconds
--   $4 int          HTTP status, null without an answer   $5 text  what was wrong
--   $6 int          give up after so many attempts        $7 float8  or at this age, in seconds
-- Returns whether it is dead now; nothing if the claim is no longer the caller's.
WITH failed AS (
    UPDATE webhook_deliveries
    SET attempts = attempts + 1, attempted_at = now(), answer = $4, error = $5,
        due_at = now() + make_interval(secs => $3), claimed_until = NULL,
        dead_at = CASE
            WHEN attempts + 1 >= $6 OR queued_at < now() - make_interval(secs => $7) THEN now()
        END
    WHERE id = $1 AND claimed_until = $2
    RETURNING endpoint, order_no, event_id, dead_at
),
brought_forward AS (
    -- A dead letter delays no later event.
    UPDATE webhook_deliveries
    SET due_at = now()
    WHERE claimed_until IS NULL AND id = (
        SELECT later.id
        FROM failed JOIN webhook_deliveries later USING (endpoint, order_no)
        WHERE failed.dead_at IS NOT NULL
          AND later.event_id > failed.event_id AND later.dead_at IS NULL
        ORDER BY later.event_id
        LIMIT 1)
)
SELECT dead_at IS NOT NULL AS dead FROM failed
