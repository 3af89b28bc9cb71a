-- Refund a paid order: one compare-and-set.
--   $1 text     order number
--   $2 text     refund id
--   $3 boolean  whether its units are for sale again; else they are written off, and stay sold
--   $4 text     id of the call, '' if not known
-- Returns the order number, or nothing if the order is not paid.
-- The caller holds the lock of lock_sales_of_orders.sql. A trigger makes the order's payment follow.
WITH refunded AS (
    UPDATE orders
    SET status = 'refunded', refunded_at = now(), refund_id = $2
    WHERE order_no = $1 AND status = 'paid'
    RETURNING order_no, sku, user_id, quantity
),
recorded AS (
    INSERT INTO stock_ledger (sku, order_no, kind, quantity)
    SELECT sku, order_no, CASE WHEN $3 THEN 'refunded' ELSE 'written_off' END, quantity
    FROM refunded
),
announced AS (
    INSERT INTO order_events (order_no, kind, call_id)
    SELECT order_no, 'refunded', $4 FROM refunded
),
returned AS (
    INSERT INTO restore_outbox (order_no, sku, user_id, quantity)
    SELECT order_no, sku, user_id, quantity FROM refunded WHERE $3
),
counted AS (
    UPDATE sales
    SET sold = sold - refunded.quantity
    FROM refunded
    WHERE sales.sku = refunded.sku AND $3
)
SELECT order_no FROM refunded
