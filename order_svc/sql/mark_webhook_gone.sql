-- Note that an endpoint wants nothing any more.
--   $1 text  its name
-- Returns the name where nobody had noted that.
UPDATE webhook_endpoints SET gone_at = now() WHERE name = $1 AND gone_at IS NULL RETURNING name
