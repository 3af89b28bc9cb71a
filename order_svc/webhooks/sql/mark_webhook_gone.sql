-- Record that an endpoint asks for no further events.
--   $1 text  its name
-- Returns the name if this was not on record.
UPDATE webhook_endpoints SET gone_at = now() WHERE name = $1 AND gone_at IS NULL RETURNING name
