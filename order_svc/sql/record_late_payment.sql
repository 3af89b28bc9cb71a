-- Note a payment that came too late, once.
--   $1 text  payment id            $2 text  order number
--   $3 bigint amount, minor units  $4 text  currency
-- Returns the payment id where this call noted it.
INSERT INTO late_payments (payment_id, order_no, amount_minor, currency)
VALUES ($1, $2, $3, $4)
ON CONFLICT (payment_id) DO NOTHING
RETURNING payment_id
