-- Say that endpoints are in somebody's settings: from now on their events are queued.
--   $1 text[]  names
--   $2 text[]  for each, the kinds of events that it wants, separated by commas
INSERT INTO webhook_endpoints (name, kinds)
SELECT n.name, string_to_array(n.kinds, ',')
FROM unnest($1::text[], $2::text[]) AS n (name, kinds)
-- Replicas that do this at once lock the rows in one order.
ORDER BY n.name COLLATE "C"
ON CONFLICT (name) DO UPDATE SET kinds = excluded.kinds, named_at = now()
