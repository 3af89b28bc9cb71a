-- Put units on sale, with their row of the ledger. The caller holds the lock of lock_sale.sql.
--   $1 text  sku   $2 bigint  units
WITH raised AS (
    UPDATE sales
    SET total = total + $2, first_total = coalesce(first_total, total)
    WHERE sku = $1
    RETURNING sku
)
INSERT INTO stock_ledger (sku, kind, quantity)
SELECT sku, 'added', $2 FROM raised
