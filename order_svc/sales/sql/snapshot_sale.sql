-- One sale as operators left it: its terms, state, epoch and archive, the units sold, and the time.
--   $1 text  sku
SELECT s.sku, title, total, unit_price_minor, currency, purchase_limit,
       coalesce(r.starts_at, s.starts_at) AS starts_at,
       coalesce(r.ends_at, s.ends_at) AS ends_at,
       payment_window, rebuy_allowed, buckets, epoch, sold, terms_revision,
       coalesce(r.state, 'open') AS state, coalesce(r.revision, 0) AS revision,
       r.archived_at, clock_timestamp() AS read_at
FROM sales s LEFT JOIN sale_records r USING (sku)
WHERE s.sku = $1
