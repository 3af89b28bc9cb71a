-- Take the oldest events that no other replica is sending, with what they say of their orders.
--   $1 int  at most this many
-- They stay locked until the transaction ends: deleted with it, or free for the next try.
WITH taken AS (
    SELECT id, order_no, kind, payment_id, at
    FROM order_events
    ORDER BY id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
SELECT t.id AS event_id, t.kind, t.at AS event_at,
       extract(epoch FROM clock_timestamp() - t.at)::float8 AS age_s,
       l.payment_id AS late_payment_id, l.amount_minor AS late_amount_minor,
       l.currency AS late_currency, o.*
FROM taken t
JOIN order_details o USING (order_no)
LEFT JOIN late_payments l ON l.payment_id = t.payment_id
ORDER BY t.id
