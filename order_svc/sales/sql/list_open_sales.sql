-- List sales that Redis must have: those that may sell, now or later, neither closed nor over; and those
-- that units are to be given back to. No archived ones, and no shadow sales.
--   $1 text  after this sku
--   $2 int   at most this many
SELECT s.sku, s.buckets
FROM sales s LEFT JOIN sale_records r USING (sku)
WHERE s.sku > $1 AND NOT starts_with(s.sku, 'shadow-sale-') AND r.archived_at IS NULL
  AND (
    (coalesce(r.state, 'open') <> 'closed' AND coalesce(r.ends_at, s.ends_at) > now())
    OR s.sku IN (SELECT sku FROM restore_outbox WHERE restored_at IS NULL)
  )
ORDER BY s.sku COLLATE "C"
LIMIT $2
