-- Pay a pending order in time: the one compare-and-set that decides against its expiry.
--   $1 text  order number          $2 text  payment id
--   $3 bigint amount, minor units  $4 text  currency     $5 text  its buyer, '' for any
-- Returns the order number, or nothing where any of this does not fit.
WITH paid AS (
    UPDATE orders
    SET status = 'paid', paid_at = now(), payment_id = $2
    WHERE order_no = $1 AND status = 'pending' AND expires_at > now()
      AND amount_minor = $3 AND currency = $4 AND ($5 = '' OR user_id = $5)
    RETURNING order_no, sku, quantity
),
announced AS (
    INSERT INTO order_events (order_no, kind) SELECT order_no, 'paid' FROM paid
)
INSERT INTO stock_ledger (sku, order_no, kind, quantity)
SELECT sku, order_no, 'paid', quantity FROM paid
RETURNING order_no
