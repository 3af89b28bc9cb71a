-- Register a sale, and put its units on the ledger, but not those of a shadow sale; returns nothing if
-- the sku is taken.
--   $1 text sku           $2 text title   $3 bigint units          $4 bigint unit price, minor units
--   $5 text currency      $6 int purchase limit                    $7 timestamptz start, or null
--   $8 timestamptz end    $9 interval payment window               $10 boolean rebuy allowed
--   $11 int buckets
WITH registered AS (
    INSERT INTO sales (sku, title, total, unit_price_minor, currency, purchase_limit,
                       starts_at, ends_at, payment_window, rebuy_allowed, buckets)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (sku) DO NOTHING
    RETURNING sku, total
),
recorded AS (
    INSERT INTO stock_ledger (sku, kind, quantity)
    SELECT sku, 'loaded', total FROM registered WHERE NOT starts_with(sku, 'shadow-sale-')
)
SELECT sku FROM registered
