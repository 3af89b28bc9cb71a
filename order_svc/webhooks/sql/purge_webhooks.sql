-- Delete dead letters that were kept long enough.
--   $1 float8  how long, in seconds
--   $2 int     at most so many
-- Returns the id of each.
DELETE FROM webhook_deliveries
WHERE id IN (
    SELECT id
    FROM webhook_deliveries
    WHERE dead_at < now() - make_interval(secs => $1)
    ORDER BY dead_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED)
RETURNING id
