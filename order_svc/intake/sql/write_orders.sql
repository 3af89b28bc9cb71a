-- Write orders, their ledger rows and events, and the restore outbox rows of rejected ones.
--   $1 text[] order numbers  $2 text[] skus       $3 text[] buyers
--   $4 text[] request ids    $5 int[] quantities  $6 bigint[] epochs
--   $7 text[] reasons to reject, null for a pending order
--   $8 text[] ids of the calls that reserved them, '' if not known
-- Returns the orders written now, with their status. A number that is taken, and a pending order
-- of a buyer who has a live one, are left out and change nothing.
-- The caller holds the locks of lock_sales.sql and has seen that there is room for all.
-- What a shadow sale sells has neither ledger nor events.
WITH written AS (
    INSERT INTO orders (order_no, sku, user_id, request_id, quantity, amount_minor, currency,
                        status, epoch, expires_at, cancelled_at, cancel_reason)
    SELECT i.order_no, i.sku, i.user_id, i.request_id, i.quantity,
           s.unit_price_minor * i.quantity, s.currency,
           CASE WHEN i.cancel_reason IS NULL THEN 'pending' ELSE 'rejected' END,
           i.epoch, now() + s.payment_window,
           CASE WHEN i.cancel_reason IS NOT NULL THEN now() END, i.cancel_reason
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[], $7::text[])
             AS i (order_no, sku, user_id, request_id, quantity, epoch, cancel_reason)
    JOIN sales s ON s.sku = i.sku
    -- A buyer's first number wins, whatever order the join comes out in.
    ORDER BY i.order_no COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING order_no, sku, user_id, quantity, status
),
recorded AS (
    INSERT INTO stock_ledger (sku, order_no, kind, quantity)
    SELECT sku, order_no, CASE status WHEN 'pending' THEN 'reserved' ELSE 'rejected' END, quantity
    FROM written
    WHERE NOT starts_with(sku, 'shadow-sale-')
),
announced AS (
    INSERT INTO order_events (order_no, kind, call_id)
    SELECT w.order_no, CASE w.status WHEN 'pending' THEN 'created' ELSE 'rejected' END, i.call_id
    FROM unnest($1::text[], $8::text[]) AS i (order_no, call_id)
    JOIN written w ON w.order_no = i.order_no
    WHERE NOT starts_with(w.sku, 'shadow-sale-')
),
returned AS (
    INSERT INTO restore_outbox (order_no, sku, user_id, quantity)
    SELECT order_no, sku, user_id, quantity FROM written WHERE status = 'rejected'
),
counted AS (
    -- Beyond the total the table's own CHECK refuses the whole batch: a WHERE that skipped the
    -- update in silence would leave live orders that nothing counts.
    UPDATE sales
    SET sold = sold + live.units
    FROM (SELECT sku, sum(quantity) AS units FROM written WHERE status = 'pending' GROUP BY sku)
             AS live
    WHERE sales.sku = live.sku
)
SELECT order_no, status FROM written
