-- What a delivery tells, as claim_webhooks.sql reads it.
--   $1 bigint  the delivery
SELECT d.event_id, d.kind, d.at AS event_at,
       l.payment_id AS late_payment_id, l.amount_minor AS late_amount_minor,
       l.currency AS late_currency, o.*
FROM webhook_deliveries d
JOIN order_details o USING (order_no)
LEFT JOIN late_payments l ON l.payment_id = d.payment_id
WHERE d.id = $1
