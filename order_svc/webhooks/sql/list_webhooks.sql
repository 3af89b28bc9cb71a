-- List deliveries, oldest first.
--   $1 bigint[]  only these, null for all          $2 text    only this endpoint's, '' for all
--   $3 bool      only dead ones not dropped        $4 bigint  only ids above this one
--   $5 int       at most so many
SELECT d.*, e.name IS NOT NULL AS named, e.gone_at
FROM webhook_deliveries d LEFT JOIN webhook_endpoints e ON e.name = d.endpoint
WHERE ($1::bigint[] IS NULL OR id = ANY ($1))
  AND ($2 = '' OR endpoint = $2)
  AND (NOT $3 OR (dead_at IS NOT NULL AND dropped_at IS NULL))
  AND id > $4
ORDER BY id
LIMIT $5
