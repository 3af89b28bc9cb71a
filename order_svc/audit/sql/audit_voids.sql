-- The latest orders of a sale that operators voided, oldest first.
--   $1 text  sku   $2 int  at most so many
SELECT *
FROM (
    SELECT order_no, operator, reason, at
    FROM order_voids
    WHERE sku = $1
    ORDER BY order_no DESC
    LIMIT $2
) latest
ORDER BY order_no
