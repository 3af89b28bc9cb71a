-- Record that a payment which paid no order was paid back.
--   $1 text  provider   $2 text  payment id   $3 text  refund id
-- Returns the payment, or nothing if it does not stand to be refunded.
UPDATE payments
SET state = 'refunded', refunded_at = now(), refund_id = $3
WHERE provider = $1 AND payment_id = $2 AND state = 'to_refund'
RETURNING *
