-- List sales that may sell, now or later: neither closed nor over, and no shadow sales.
--   $1 text  after this sku
--   $2 int   at most this many
SELECT s.sku, s.buckets
FROM sales s LEFT JOIN sale_records r USING (sku)
WHERE s.sku > $1 AND coalesce(r.state, 'open') <> 'closed'
  AND NOT starts_with(s.sku, 'shadow-sale-')
  AND coalesce(r.ends_at, s.ends_at) > now()
ORDER BY s.sku COLLATE "C"
LIMIT $2
