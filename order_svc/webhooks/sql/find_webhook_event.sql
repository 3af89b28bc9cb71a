-- Find the event of a delivery, with the columns of claim_webhooks.sql.
--   $1 bigint  the delivery
SELECT d.event_id, d.kind, d.at AS event_at, d.order_no AS event_order_no,
       d.call_id,
       p.provider AS owed_provider, p.payment_id AS owed_payment_id,
       p.amount_minor AS owed_amount_minor, p.currency AS owed_currency, p.reason AS owed_reason,
       s.id AS change_id, s.sku AS change_sku, s.operator AS change_operator,
       s.at AS changed_at, s.before AS change_before, s.after AS change_after,
       s.addition_id AS change_addition_id, s.added_units AS change_added_units,
       o.*
FROM webhook_deliveries d
-- A payment may name an order that does not exist.
LEFT JOIN order_details o USING (order_no)
LEFT JOIN payments p
    ON p.provider = coalesce(d.payment_provider, 'unknown') AND p.payment_id = d.payment_id
LEFT JOIN sale_changes s ON s.id = d.sale_change_id
WHERE d.id = $1
