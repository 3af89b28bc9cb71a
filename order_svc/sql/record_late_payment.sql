-- Note a payment that came too late, once, and announce that it must be paid back.
--   $1 text  payment id            $2 text  order number
--   $3 bigint amount, minor units  $4 text  currency
-- Returns the payment id where this call noted it.
WITH noted AS (
    INSERT INTO late_payments (payment_id, order_no, amount_minor, currency)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (payment_id) DO NOTHING
    RETURNING payment_id, order_no
),
announced AS (
    INSERT INTO order_events (order_no, kind, payment_id)
    SELECT order_no, 'payment_too_late', payment_id FROM noted
)
SELECT payment_id FROM noted
