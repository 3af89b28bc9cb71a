-- Forget endpoints that no replica has had in its settings for a while.
--   $1 text[]  names that the caller knows: never those
--   $2 float8  for how long, in seconds
-- Returns the names forgotten. Their open deliveries are buried by bury_webhooks.sql.
DELETE FROM webhook_endpoints
WHERE name <> ALL ($1) AND named_at < now() - make_interval(secs => $2)
RETURNING name
