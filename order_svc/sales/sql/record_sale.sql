-- Record what operators decided about a sale, unless a later change is on record.
--   $1 text  sku    $2 text  state    $3 timestamptz  start    $4 timestamptz  end
--   $5 bigint  revision
-- Returns the revision on record afterwards; nothing if the sku is not registered.
WITH recorded AS (
    INSERT INTO sale_records AS known (sku, state, starts_at, ends_at, revision)
    SELECT sku, $2, $3, $4, $5 FROM sales WHERE sku = $1
    ON CONFLICT (sku) DO UPDATE
    SET state = excluded.state, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
        revision = excluded.revision, updated_at = now()
    WHERE known.revision < excluded.revision
    RETURNING revision
)
SELECT coalesce((SELECT revision FROM recorded), known.revision) AS revision
FROM sales LEFT JOIN sale_records known USING (sku)
WHERE sku = $1
