-- Delete endpoints that no replica has registered for a while.
--   $1 text[]  names that the caller knows: never those
--   $2 float8  for how long, in seconds
-- Returns the names deleted. expire_webhooks.sql gives up their open deliveries.
DELETE FROM webhook_endpoints
WHERE name <> ALL ($1) AND named_at < now() - make_interval(secs => $2)
RETURNING name
