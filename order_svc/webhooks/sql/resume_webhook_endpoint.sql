-- Send to an endpoint again that was gone.
--   $1 text  its name
-- Returns the name, or nothing if it is not gone.
UPDATE webhook_endpoints SET gone_at = NULL WHERE name = $1 AND gone_at IS NOT NULL RETURNING name
