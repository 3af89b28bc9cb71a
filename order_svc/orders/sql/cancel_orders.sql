-- Cancel those of the given orders that are pending: the compare-and-set against their payment.
--   $1 text[]    order numbers
--   $2 text      reason: 'expired' takes only orders whose payment time is over, 'buyer' and
--                'voided' any
--   $3 text      only orders of this buyer, '' for all
--   $4 interval  for how long their units are the caller's to restore
--   $5 text      id of the call, '' if not known
-- Returns the numbers cancelled now. The caller holds the locks of lock_sales_of_orders.sql.
WITH due AS (
    SELECT order_no
    FROM orders
    WHERE order_no = ANY ($1) AND status = 'pending'
      AND ($2 <> 'expired' OR expires_at <= now())
      AND ($3 = '' OR user_id = $3)
    ORDER BY order_no
    FOR NO KEY UPDATE
),
cancelled AS (
    UPDATE orders
    SET status = 'cancelled', cancelled_at = now(), cancel_reason = $2
    FROM due
    WHERE orders.order_no = due.order_no AND orders.status = 'pending'
    RETURNING orders.order_no, sku, user_id, quantity
),
recorded AS (
    INSERT INTO stock_ledger (sku, order_no, kind, quantity)
    SELECT sku, order_no, 'cancelled', quantity FROM cancelled
    WHERE NOT starts_with(sku, 'shadow-sale-')
),
announced AS (
    INSERT INTO order_events (order_no, kind, call_id)
    SELECT order_no, 'cancelled', $5 FROM cancelled
    WHERE NOT starts_with(sku, 'shadow-sale-')
),
returned AS (
    INSERT INTO restore_outbox (order_no, sku, user_id, quantity, due_at)
    SELECT order_no, sku, user_id, quantity, now() + $4::interval FROM cancelled
),
counted AS (
    UPDATE sales
    SET sold = sold - ended.units
    FROM (SELECT sku, sum(quantity) AS units FROM cancelled GROUP BY sku) AS ended
    WHERE sales.sku = ended.sku
)
SELECT order_no FROM cancelled
