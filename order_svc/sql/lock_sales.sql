-- Lock the sales of a batch, and tell their terms.
--   $1 text[]  skus; those that are not registered are not returned
-- Locked in the order of their skus, so that two batches cannot wait for each other. NO KEY leaves
-- the foreign key checks of other writers alone. What runs next in the transaction sees all that
-- earlier holders of the locks have committed.
SELECT sku, unit_price_minor, currency, payment_window, now() AS written_at
FROM sales
WHERE sku = ANY ($1)
ORDER BY sku
FOR NO KEY UPDATE
