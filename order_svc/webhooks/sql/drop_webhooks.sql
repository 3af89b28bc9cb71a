-- Mark dead letters as dropped.
--   $1 bigint[]  their ids
--   $2 text      why
-- Returns the ids dropped now.
UPDATE webhook_deliveries
SET dropped_at = now(), dropped_note = $2
WHERE id = ANY ($1) AND dead_at IS NOT NULL AND dropped_at IS NULL
RETURNING id
