-- Lock the oldest events that no other replica is sending, and read them with their orders.
--   $1 int  at most this many
-- They stay locked until the transaction ends: deleted with it, or free for the next try.
WITH taken AS (
    SELECT id, order_no, kind, payment_provider, payment_id, sale_change_id, at, call_id
    FROM order_events
    ORDER BY id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
SELECT t.id AS event_id, t.kind, t.at AS event_at, t.order_no AS event_order_no,
       t.call_id,
       extract(epoch FROM clock_timestamp() - t.at)::float8 AS age_s,
       p.provider AS owed_provider, p.payment_id AS owed_payment_id,
       p.amount_minor AS owed_amount_minor, p.currency AS owed_currency, p.reason AS owed_reason,
       s.id AS change_id, s.sku AS change_sku, s.operator AS change_operator,
       s.at AS changed_at, s.before AS change_before, s.after AS change_after,
       s.addition_id AS change_addition_id, s.added_units AS change_added_units,
       o.*
FROM taken t
-- A payment may name an order that does not exist.
LEFT JOIN order_details o USING (order_no)
LEFT JOIN payments p
    ON p.provider = coalesce(t.payment_provider, 'unknown') AND p.payment_id = t.payment_id
LEFT JOIN sale_changes s ON s.id = t.sale_change_id
ORDER BY t.id
