-- Record which orders an operator has just voided, and why.
--   $1 text[]  order numbers   $2 text  sku   $3 text  the operator   $4 text  the reason
INSERT INTO order_voids (order_no, sku, operator, reason)
SELECT order_no, $2, $3, $4
FROM unnest($1::text[]) AS v (order_no)
ORDER BY order_no
RETURNING order_no
