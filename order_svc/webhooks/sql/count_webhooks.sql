-- Count open and dead deliveries of each endpoint that is registered or has deliveries.
-- `age_s`: of the oldest event not delivered, 0 if there is none. `named`: in the settings of
-- some replica.
WITH counted AS (
    SELECT endpoint AS name,
           count(*) FILTER (WHERE dead_at IS NULL) AS waiting,
           count(*) FILTER (WHERE dead_at IS NOT NULL AND dropped_at IS NULL) AS dead,
           min(at) FILTER (WHERE dead_at IS NULL) AS oldest
    FROM webhook_deliveries
    GROUP BY endpoint
)
SELECT name, e.name IS NOT NULL AS named, e.kinds, e.gone_at,
       coalesce(c.waiting, 0) AS waiting, coalesce(c.dead, 0) AS dead,
       coalesce(greatest(extract(epoch FROM clock_timestamp() - c.oldest), 0), 0)::float8 AS age_s
FROM webhook_endpoints e FULL JOIN counted c USING (name)
ORDER BY name
