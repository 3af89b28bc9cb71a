-- Register endpoints of a replica's settings: from now on their events are queued.
--   $1 text[]  names
--   $2 text[]  for each, the kinds of events that it wants, separated by commas
--   $3 float8  for how many seconds a kind counts that no replica names any more
INSERT INTO webhook_endpoints AS known (name, kinds, kinds_named)
SELECT n.name, string_to_array(n.kinds, ','),
       (SELECT jsonb_object_agg(kind, now()) FROM unnest(string_to_array(n.kinds, ',')) AS kind)
FROM unnest($1::text[], $2::text[]) AS n (name, kinds)
-- Replicas that do this at once lock the rows in one order.
ORDER BY n.name COLLATE "C"
-- Replicas of other settings have named other kinds: what any has named lately is queued.
ON CONFLICT (name) DO UPDATE
SET (kinds, kinds_named) = (
        SELECT array_agg(k.kind ORDER BY k.kind), jsonb_object_agg(k.kind, k.at)
        FROM jsonb_each_text(known.kinds_named || excluded.kinds_named) AS k (kind, at)
        WHERE k.at::timestamptz > now() - make_interval(secs => $3::float8)
    ),
    named_at = now()
