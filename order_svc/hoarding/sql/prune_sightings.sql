-- Forget the oldest sightings.
--   $1 interval  older than this   $2 int  at most so many
-- Returns the numbers that were forgotten.
DELETE FROM order_sightings
WHERE order_no IN (
    SELECT order_no FROM order_sightings WHERE at < now() - $1::interval ORDER BY at LIMIT $2)
RETURNING order_no
