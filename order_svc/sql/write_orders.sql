-- Write the orders of a batch, their ledger rows and what of their units must go back.
--   $1 text[] order numbers  $2 text[] skus  $3 text[] buyers  $4 text[] request ids
--   $5 int[] quantities      $6 bigint[] epochs
-- Returns the orders written now; numbers written before are left out and change nothing.
-- The caller holds the locks of lock_sales.sql, so `sold`, and who has a live order, stand still.
WITH incoming AS (
    SELECT i.*, s.total - s.sold AS room, s.currency, s.payment_window,
           s.unit_price_minor * i.quantity AS amount_minor,
           -- The buyer has a live order, or an earlier number of this batch will be one.
           EXISTS (SELECT FROM orders live
                   WHERE live.user_id = i.user_id AND live.sku = i.sku
                     AND live.status IN ('pending', 'paid'))
               OR row_number() OVER (PARTITION BY i.sku, i.user_id ORDER BY i.order_no) > 1
               AS duplicate
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[])
             AS i (order_no, sku, user_id, request_id, quantity, epoch)
    JOIN sales s ON s.sku = i.sku COLLATE "C"
    WHERE NOT EXISTS (SELECT FROM orders o WHERE o.order_no = i.order_no COLLATE "C")
),
judged AS (
    SELECT *, CASE
        WHEN duplicate THEN 'duplicate'
        -- As many as fit, in the order of their numbers.
        WHEN sum(quantity) FILTER (WHERE NOT duplicate)
             OVER (PARTITION BY sku ORDER BY order_no) > room THEN 'no_stock'
        END AS cancel_reason
    FROM incoming
),
written AS (
    INSERT INTO orders (order_no, sku, user_id, request_id, quantity, amount_minor, currency,
                        status, epoch, expires_at, cancelled_at, cancel_reason)
    SELECT order_no, sku, user_id, request_id, quantity, amount_minor, currency,
           CASE WHEN cancel_reason IS NULL THEN 'pending' ELSE 'rejected' END,
           epoch, now() + payment_window,
           CASE WHEN cancel_reason IS NOT NULL THEN now() END, cancel_reason
    FROM judged
    ORDER BY order_no
    ON CONFLICT (order_no) DO NOTHING
    RETURNING order_no, sku, user_id, quantity, status
),
recorded AS (
    INSERT INTO stock_ledger (sku, order_no, kind, quantity)
    SELECT sku, order_no, CASE status WHEN 'pending' THEN 'reserved' ELSE 'rejected' END, quantity
    FROM written
),
returned AS (
    INSERT INTO restore_outbox (order_no, sku, user_id, quantity)
    SELECT order_no, sku, user_id, quantity FROM written WHERE status = 'rejected'
),
counted AS (
    -- Beyond the total the table's own CHECK refuses the whole batch: a WHERE that skipped the
    -- update in silence would leave orders that nothing counts.
    UPDATE sales
    SET sold = sold + live.units
    FROM (SELECT sku, sum(quantity) AS units FROM written WHERE status = 'pending' GROUP BY sku)
             AS live
    WHERE sales.sku = live.sku
)
SELECT order_no, status FROM written
