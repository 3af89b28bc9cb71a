-- Lock the sales of a batch, and read their terms and the units not sold yet.
--   $1 text[]  skus; those that are not registered are not returned
-- Locked in the order of their skus, so that two batches cannot wait for each other. What runs
-- next in the transaction sees all that earlier holders of the locks have committed.
SELECT sku, unit_price_minor, currency, payment_window, total - sold AS room, now() AS written_at
FROM sales
WHERE sku = ANY ($1)
ORDER BY sku
FOR NO KEY UPDATE
