-- Put a payment on record with the one fate that it has, and pay its order if it fits.
--   $1 text    provider               $2 text  payment id
--   $3 text    order number           $4 bigint amount, minor units
--   $5 text    currency               $6 text  the order's buyer, '' for any
--   $7 boolean whether an unknown order may still be on its way, so that nothing is decided yet
--   $8 text    id of the call, '' if not known
-- Returns its state and reason if this call recorded it. It records nothing if the payment is on
-- record, the order is another buyer's, or it may be on its way.
-- Locks the order, then the payment: nothing that holds a payment waits for an order.
WITH found AS (
    SELECT order_no, user_id, status, amount_minor, currency, expires_at <= now() AS expired
    FROM orders
    WHERE order_no = $3
    FOR NO KEY UPDATE
),
judged AS (
    SELECT CASE
        WHEN f.order_no IS NULL THEN 'unknown_order'
        WHEN f.currency <> $5 THEN 'wrong_currency'
        WHEN f.amount_minor <> $4 THEN 'wrong_amount'
        WHEN f.status = 'paid' THEN 'already_paid'
        WHEN f.status = 'refunded' THEN 'order_refunded'
        WHEN f.status = 'rejected' THEN 'order_rejected'
        WHEN f.status = 'cancelled' OR f.expired THEN 'too_late'
    END AS reason
    FROM (VALUES (1)) AS one LEFT JOIN found f ON true
    WHERE CASE WHEN f.order_no IS NULL THEN NOT $7 ELSE $6 IN ('', f.user_id) END
),
noted AS (
    INSERT INTO payments (provider, payment_id, order_no, amount_minor, currency, state, reason)
    SELECT $1, $2, $3, $4, $5, CASE WHEN reason IS NULL THEN 'applied' ELSE 'to_refund' END, reason
    FROM judged
    WHERE NOT EXISTS (SELECT FROM payments WHERE provider = 'unknown' AND payment_id = $2)
    ON CONFLICT (provider, payment_id) DO NOTHING
    RETURNING state, reason
),
paid AS (
    UPDATE orders
    SET status = 'paid', paid_at = now(), payment_id = $2
    FROM noted
    WHERE order_no = $3 AND noted.state = 'applied'
      AND status = 'pending' AND expires_at > now()
    RETURNING order_no, sku, quantity
),
moved AS (
    INSERT INTO stock_ledger (sku, order_no, kind, quantity)
    SELECT sku, order_no, 'paid', quantity FROM paid
),
announced AS (
    INSERT INTO order_events (order_no, kind, payment_provider, payment_id, call_id)
    SELECT $3, 'paid', NULL, NULL, $8 FROM paid
    UNION ALL
    SELECT $3,
           CASE WHEN reason IN ('too_late', 'order_rejected')
                THEN 'payment_too_late' ELSE 'payment_to_refund' END,
           $1, $2, $8
    FROM noted
    WHERE state = 'to_refund'
)
SELECT state, reason FROM noted
