CREATE TABLE webhook_endpoints (
    name     text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    kinds    text[]      NOT NULL CHECK (cardinality(kinds) > 0),
    named_at timestamptz NOT NULL DEFAULT now(),
    gone_at  timestamptz
);
COMMENT ON TABLE webhook_endpoints IS
    'Who is told of order events by HTTP: the endpoints in the settings of the replicas that run. '
    'Addresses and secrets are not here. From the row''s commit on, every event of its kinds has a '
    'delivery.';
COMMENT ON COLUMN webhook_endpoints.kinds IS 'Kinds of order_events that it wants.';
COMMENT ON COLUMN webhook_endpoints.named_at IS
    'When a replica last had it in its settings; long ago means that it was taken out.';
COMMENT ON COLUMN webhook_endpoints.gone_at IS
    'When it answered 410 Gone; it is sent nothing until an operator resumes it.';

CREATE TABLE webhook_deliveries (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint      text COLLATE "C" NOT NULL,
    event_id      bigint      NOT NULL,
    order_no      text COLLATE "C" NOT NULL,
    kind          text        NOT NULL,
    payment_id    text COLLATE "C",
    at            timestamptz NOT NULL,
    queued_at     timestamptz NOT NULL DEFAULT now(),
    due_at        timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    attempts      integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    attempted_at  timestamptz,
    answer        integer,
    error         text,
    dead_at       timestamptz,
    dropped_at    timestamptz,
    dropped_note  text,
    CONSTRAINT webhook_deliveries_dead_are_not_claimed CHECK (
        dead_at IS NULL OR claimed_until IS NULL),
    CONSTRAINT webhook_deliveries_dropped_are_dead CHECK (
        dropped_at IS NULL OR dead_at IS NOT NULL),
    CONSTRAINT webhook_deliveries_dropped_for_a_reason CHECK (
        (dropped_at IS NULL) = (dropped_note IS NULL))
)
-- A queue, as order_events is one.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
COMMENT ON TABLE webhook_deliveries IS
    'One row for each event and endpoint: written in the transaction of the change, deleted once '
    'the endpoint has answered 2xx. Open ones have no dead_at; dead letters keep their last error.';
COMMENT ON COLUMN webhook_deliveries.event_id IS
    'Number that the event had in order_events; an order''s later event has a higher one.';
COMMENT ON COLUMN webhook_deliveries.payment_id IS
    'Of payment_too_late: which row of late_payments.';
COMMENT ON COLUMN webhook_deliveries.at IS 'When the event happened.';
COMMENT ON COLUMN webhook_deliveries.queued_at IS 'From when on its age counts; a redrive renews it.';
COMMENT ON COLUMN webhook_deliveries.due_at IS 'When to look at it next.';
COMMENT ON COLUMN webhook_deliveries.claimed_until IS
    'Until when it belongs to the replica that sends it; also that replica''s proof of the claim.';
COMMENT ON COLUMN webhook_deliveries.attempts IS 'How often it was sent in vain.';
COMMENT ON COLUMN webhook_deliveries.answer IS 'HTTP status of the last attempt; null without one.';
COMMENT ON COLUMN webhook_deliveries.dead_at IS 'When it was given up; null while it is open.';
COMMENT ON COLUMN webhook_deliveries.dropped_at IS 'When an operator laid the dead letter aside.';

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint, due_at)
    WHERE dead_at IS NULL;
CREATE INDEX webhook_deliveries_of_order ON webhook_deliveries (endpoint, order_no, event_id)
    WHERE dead_at IS NULL;
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (dead_at)
    WHERE dead_at IS NOT NULL;

CREATE FUNCTION queue_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (endpoint, event_id, order_no, kind, payment_id, at)
    SELECT e.name, t.id, t.order_no, t.kind, t.payment_id, t.at
    FROM webhook_endpoints e
    JOIN told t ON t.kind = ANY (e.kinds)
    ORDER BY t.id, e.name;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION queue_webhooks() IS
    'Queues each event for each endpoint that wants it, in the transaction that made the event: '
    'whether Kafka or an endpoint is up has no part in it. Once a statement, not once a row.';
CREATE TRIGGER order_events_queue_webhooks AFTER INSERT ON order_events
    REFERENCING NEW TABLE AS told
    FOR EACH STATEMENT EXECUTE FUNCTION queue_webhooks();
