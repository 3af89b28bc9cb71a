-- Look at the due deliveries of an endpoint, and claim those that may be sent now.
--   $1 text    the endpoint
--   $2 int     look at so many at most
--   $3 float8  for how long a claim is the caller's, in seconds
-- Returns a row for each looked at; `claimed_until` is null if an earlier event of the same
-- order is not delivered: that one goes first, and this one is put off until its turn.
WITH due AS (
    SELECT id, endpoint, order_no, event_id
    FROM webhook_deliveries
    WHERE endpoint = $1 AND dead_at IS NULL AND due_at <= now()
      AND NOT EXISTS (SELECT FROM webhook_endpoints WHERE name = $1 AND gone_at IS NOT NULL)
    ORDER BY due_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
),
looked AS (
    -- One that is being sent has its turn within moments: a claim ends long after that.
    SELECT due.id,
           CASE WHEN earlier.claimed_until > now() THEN now() ELSE earlier.due_at END AS after
    FROM due LEFT JOIN LATERAL (
        SELECT e.due_at, e.claimed_until
        FROM webhook_deliveries e
        WHERE e.endpoint = due.endpoint AND e.order_no = due.order_no
          AND e.event_id < due.event_id AND e.dead_at IS NULL
        ORDER BY e.event_id DESC
        LIMIT 1
    ) earlier ON true
),
put_off AS (
    -- When the earlier one is delivered, this one is brought forward; the second is for the case
    -- that both happen at once, and what is seen here of the earlier one is the past.
    UPDATE webhook_deliveries
    SET due_at = greatest(looked.after, now() + interval '1 s'), claimed_until = NULL
    FROM looked
    WHERE webhook_deliveries.id = looked.id AND looked.after IS NOT NULL
),
claimed AS (
    UPDATE webhook_deliveries
    SET due_at = now() + make_interval(secs => $3),
        claimed_until = now() + make_interval(secs => $3)
    FROM looked
    WHERE webhook_deliveries.id = looked.id AND looked.after IS NULL
    RETURNING webhook_deliveries.*
)
SELECT looked.id AS delivery_id, c.claimed_until, c.attempts,
       c.event_id, c.kind, c.at AS event_at, c.order_no AS event_order_no,
       c.call_id,
       p.provider AS owed_provider, p.payment_id AS owed_payment_id,
       p.amount_minor AS owed_amount_minor, p.currency AS owed_currency, p.reason AS owed_reason,
       s.id AS change_id, s.sku AS change_sku, s.operator AS change_operator,
       s.at AS changed_at, s.before AS change_before, s.after AS change_after,
       s.addition_id AS change_addition_id, s.added_units AS change_added_units,
       o.*
FROM looked
LEFT JOIN claimed c USING (id)
LEFT JOIN order_details o ON o.order_no = c.order_no
LEFT JOIN payments p
    ON p.provider = coalesce(c.payment_provider, 'unknown') AND p.payment_id = c.payment_id
LEFT JOIN sale_changes s ON s.id = c.sale_change_id
ORDER BY looked.id
