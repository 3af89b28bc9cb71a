-- Lay dead letters aside.
--   $1 bigint[]  their ids
--   $2 text      why
-- Returns the ids laid aside now.
UPDATE webhook_deliveries
SET dropped_at = now(), dropped_note = $2
WHERE id = ANY ($1) AND dead_at IS NOT NULL AND dropped_at IS NULL
RETURNING id
