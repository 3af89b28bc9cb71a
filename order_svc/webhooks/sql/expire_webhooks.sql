-- Give up open deliveries that will not be sent: too old, or the endpoint is gone or deleted.
--   $1 float8  oldest age in seconds
--   $2 int     at most so many
-- Returns the endpoint of each.
WITH expired AS (
    SELECT d.id, CASE
        WHEN e.name IS NULL THEN 'the endpoint is not configured any more'
        WHEN e.gone_at IS NOT NULL THEN 'the endpoint answered 410 Gone'
        ELSE 'not delivered in time' END AS reason
    FROM webhook_deliveries d LEFT JOIN webhook_endpoints e ON e.name = d.endpoint
    WHERE d.dead_at IS NULL AND (d.claimed_until IS NULL OR d.claimed_until <= now())
      AND (e.name IS NULL OR e.gone_at IS NOT NULL
           OR d.queued_at < now() - make_interval(secs => $1))
    LIMIT $2
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE webhook_deliveries
SET dead_at = now(), claimed_until = NULL, error = concat_ws('; last: ', expired.reason, error)
FROM expired
WHERE webhook_deliveries.id = expired.id
RETURNING endpoint
