-- Decide which reservation events of a batch become pending orders, if not all of them can.
--   $1 text[] order numbers  $2 text[] skus  $3 text[] buyers  $4 int[] quantities
-- Returns each number that has no order yet, with the reason to reject it, or null.
-- The caller holds the locks of lock_sales.sql, so `sold` and the live orders do not change.
WITH incoming AS (
    SELECT i.*, s.total - s.sold AS room,
           -- The buyer has a live order, or an earlier number of this batch is about to be one.
           EXISTS (SELECT FROM orders live
                   WHERE live.user_id = i.user_id AND live.sku = i.sku
                     AND live.status IN ('pending', 'paid'))
               OR row_number() OVER (PARTITION BY i.sku, i.user_id ORDER BY i.order_no) > 1
               AS duplicate
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int[])
             AS i (order_no, sku, user_id, quantity)
    JOIN sales s ON s.sku = i.sku
    WHERE NOT EXISTS (SELECT FROM orders o WHERE o.order_no = i.order_no)
)
SELECT order_no,
       CASE
           WHEN duplicate THEN 'duplicate'
           -- As many as fit, in the order of their numbers: none overtakes one that did not fit.
           WHEN sum(quantity) FILTER (WHERE NOT duplicate)
                    OVER (PARTITION BY sku ORDER BY order_no COLLATE "C") > room THEN 'no_stock'
       END AS cancel_reason
FROM incoming
