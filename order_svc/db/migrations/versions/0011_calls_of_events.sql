-- An event leads to the call that caused it, in the logs of all services.
ALTER TABLE order_events ADD COLUMN call_id text COLLATE "C" NOT NULL DEFAULT '';
COMMENT ON COLUMN order_events.call_id IS
    'Id of the call that caused it, as log lines have it (request_id); empty if it is not known.';
ALTER TABLE webhook_deliveries ADD COLUMN call_id text COLLATE "C" NOT NULL DEFAULT '';
COMMENT ON COLUMN webhook_deliveries.call_id IS 'As in order_events.';
CREATE OR REPLACE FUNCTION queue_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (endpoint, event_id, order_no, kind, payment_id,
                                    payment_provider, sale_change_id, at, call_id)
    SELECT e.name, t.id, t.order_no, t.kind, t.payment_id, t.payment_provider, t.sale_change_id,
           t.at, t.call_id
    FROM webhook_endpoints e
    JOIN told t ON t.kind = ANY (e.kinds)
    ORDER BY t.id, e.name;
    RETURN NULL;
END
$$;
