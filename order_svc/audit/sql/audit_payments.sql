-- The money of a sale's orders, by currency, and the first order that its payments contradict.
--   $1 text  sku
WITH stated AS (
    SELECT p.*
    FROM payments p JOIN orders o USING (order_no)
    WHERE o.sku = $1
),
contradicted AS (
    SELECT min(order_no) AS order_no
    FROM (SELECT * FROM orders WHERE sku = $1 AND paid_at IS NOT NULL) o
    FULL JOIN (SELECT * FROM stated WHERE reason IS NULL) p USING (order_no)
    WHERE (o.payment_id, o.amount_minor, o.currency, o.refund_id)
          IS DISTINCT FROM (p.payment_id, p.amount_minor, p.currency, p.refund_id)
       OR (o.status = 'paid') IS DISTINCT FROM (p.state = 'applied')
)
SELECT (SELECT order_no FROM contradicted) AS contradicted,
       currency,
       coalesce(sum(amount_minor), 0)::bigint AS taken,
       coalesce(sum(amount_minor) FILTER (WHERE state = 'applied'), 0)::bigint AS applied,
       coalesce(sum(amount_minor) FILTER (WHERE state = 'to_refund'), 0)::bigint AS to_refund,
       coalesce(sum(amount_minor) FILTER (WHERE state = 'refunded'), 0)::bigint AS refunded
FROM stated
GROUP BY GROUPING SETS ((currency), ())
ORDER BY currency NULLS LAST
