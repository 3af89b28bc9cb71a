-- Make dead letters due now, with all attempts, except those dropped and those of endpoints that
-- are gone or not registered.
--   $1 bigint[]  their ids
-- Returns the ids that are open now.
UPDATE webhook_deliveries
SET dead_at = NULL, attempts = 0, queued_at = now(), due_at = now()
WHERE id = ANY ($1) AND dead_at IS NOT NULL AND dropped_at IS NULL
  AND EXISTS (SELECT FROM webhook_endpoints WHERE name = endpoint AND gone_at IS NULL)
RETURNING id
