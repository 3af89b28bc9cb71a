-- The ledger of a sale, from its first row.
--   $1 text  sku
SELECT id, kind, order_no, quantity, at
FROM stock_ledger
WHERE sku = $1
ORDER BY id
