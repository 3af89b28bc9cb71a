-- All orders of a sale, as the ledger must end.
--   $1 text  sku
SELECT order_no, status, quantity, returned, restored_at IS NOT NULL AS restored
FROM order_details
WHERE sku = $1
