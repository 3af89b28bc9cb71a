CREATE TABLE payments (
    id           bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    provider     text COLLATE "C" NOT NULL CHECK (provider ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    payment_id   text COLLATE "C" NOT NULL CHECK (payment_id <> ''),
    -- No foreign key: also a payment for an order that does not exist must be paid back.
    order_no     text COLLATE "C" NOT NULL,
    amount_minor bigint      NOT NULL CHECK (amount_minor >= 0),
    currency     text        NOT NULL,
    state        text        NOT NULL CHECK (state IN ('applied', 'to_refund', 'refunded')),
    reason       text CHECK (reason IN (
        'too_late', 'order_rejected', 'order_refunded', 'already_paid', 'wrong_amount',
        'wrong_currency', 'unknown_order')),
    received_at  timestamptz NOT NULL DEFAULT now(),
    refunded_at  timestamptz,
    refund_id    text COLLATE "C" CHECK (refund_id <> ''),
    PRIMARY KEY (provider, payment_id),
    CONSTRAINT payments_refunded_once_refunded CHECK (
        (state = 'refunded') = (refunded_at IS NOT NULL)
        AND (refunded_at IS NULL) = (refund_id IS NULL)),
    CONSTRAINT payments_owed_for_a_reason CHECK (
        state = 'refunded' OR (state = 'to_refund') = (reason IS NOT NULL))
);
COMMENT ON TABLE payments IS
    'What providers took. A payment has one fate over all orders: it paid its order, or it is paid '
    'back. Whoever writes one locks its order first, if there is one.';
COMMENT ON COLUMN payments.provider IS
    'Who took the money; "sandbox": nobody; "unknown": recorded by a release without this table.';
COMMENT ON COLUMN payments.order_no IS 'The order that it was stated for.';
COMMENT ON COLUMN payments.reason IS 'Why it did not pay its order; null if it did.';
COMMENT ON COLUMN payments.refund_id IS
    'The refund that paid it back; with one provider it pays back no second payment.';
CREATE UNIQUE INDEX payments_one_pays_an_order ON payments (order_no) WHERE reason IS NULL;
CREATE UNIQUE INDEX payments_refund ON payments (provider, refund_id) WHERE refund_id IS NOT NULL;
CREATE INDEX payments_of_order ON payments (order_no);
CREATE INDEX payments_to_refund ON payments (id) WHERE state = 'to_refund';

-- What is on record. A payment that paid an order and was also noted as late has paid the order.
INSERT INTO payments (provider, payment_id, order_no, amount_minor, currency, state, received_at,
                      refunded_at, refund_id)
SELECT 'unknown', payment_id, order_no, amount_minor, currency,
       CASE WHEN status = 'refunded' THEN 'refunded' ELSE 'applied' END, paid_at,
       refunded_at, refund_id
FROM orders
WHERE payment_id IS NOT NULL
ORDER BY paid_at;
INSERT INTO payments (provider, payment_id, order_no, amount_minor, currency, state, reason,
                      received_at)
SELECT 'unknown', l.payment_id, l.order_no, l.amount_minor, l.currency, 'to_refund',
       CASE WHEN o.status = 'rejected' THEN 'order_rejected' ELSE 'too_late' END, l.received_at
FROM late_payments l JOIN orders o USING (order_no)
ORDER BY l.received_at
ON CONFLICT DO NOTHING;

CREATE FUNCTION keep_payment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'refunded' OR NEW.state <> 'refunded'
       OR (OLD.id, OLD.provider, OLD.payment_id, OLD.order_no, OLD.amount_minor, OLD.currency,
           OLD.reason, OLD.received_at)
          IS DISTINCT FROM (NEW.id, NEW.provider, NEW.payment_id, NEW.order_no, NEW.amount_minor,
           NEW.currency, NEW.reason, NEW.received_at) THEN
        RAISE EXCEPTION 'a payment is a fact: all that can change is that it is refunded'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION keep_payment() IS 'Keeps the fate of a payment.';
CREATE TRIGGER payments_keep BEFORE UPDATE ON payments
    FOR EACH ROW EXECUTE FUNCTION keep_payment();
CREATE TRIGGER payments_stay BEFORE DELETE OR TRUNCATE ON payments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- (provider, payment_id) takes its place: two providers may have the same id.
DROP INDEX orders_payment;
CREATE FUNCTION follow_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = 'refunded' THEN
        UPDATE payments
        SET state = 'refunded', refunded_at = NEW.refunded_at, refund_id = NEW.refund_id
        WHERE order_no = NEW.order_no AND reason IS NULL;
    ELSE
        INSERT INTO payments (provider, payment_id, order_no, amount_minor, currency, state)
        SELECT 'unknown', NEW.payment_id, NEW.order_no, NEW.amount_minor, NEW.currency, 'applied'
        WHERE NOT EXISTS (
            SELECT FROM payments WHERE order_no = NEW.order_no AND reason IS NULL);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION follow_order() IS
    'The payment of a refunded order is refunded. While replicas of the release before this table '
    'run, an order that one of them marks as paid gets its payment.';
CREATE TRIGGER orders_payment_follows AFTER UPDATE OF status ON orders
    FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IN ('paid', 'refunded'))
    EXECUTE FUNCTION follow_order();

CREATE FUNCTION copy_late_payment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO payments (provider, payment_id, order_no, amount_minor, currency, state, reason)
    VALUES ('unknown', NEW.payment_id, NEW.order_no, NEW.amount_minor, NEW.currency, 'to_refund',
            'too_late')
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION copy_late_payment() IS 'For replicas of the release before the table payments.';
CREATE TRIGGER late_payments_copy AFTER INSERT ON late_payments
    FOR EACH ROW EXECUTE FUNCTION copy_late_payment();
COMMENT ON TABLE late_payments IS
    'Written only by replicas of the release before the table payments, which has all of it.';

-- Events name the provider of their payment.
ALTER TABLE order_events ADD COLUMN payment_provider text COLLATE "C";
ALTER TABLE order_events DROP CONSTRAINT order_events_kind_check;
ALTER TABLE order_events ADD CONSTRAINT order_events_kind_check CHECK (kind IN (
    'created', 'rejected', 'paid', 'cancelled', 'refunded', 'payment_too_late',
    'payment_to_refund'));
ALTER TABLE order_events DROP CONSTRAINT order_events_late_payment_is_named;
ALTER TABLE order_events ADD CONSTRAINT order_events_payment_is_named CHECK (
    (kind IN ('payment_too_late', 'payment_to_refund')) = (payment_id IS NOT NULL));
COMMENT ON COLUMN order_events.payment_id IS
    'Of payment_too_late and payment_to_refund: which row of payments.';
COMMENT ON COLUMN order_events.payment_provider IS 'Its provider; null means "unknown".';
ALTER TABLE webhook_deliveries ADD COLUMN payment_provider text COLLATE "C";
COMMENT ON COLUMN webhook_deliveries.payment_id IS
    'Of payment_too_late and payment_to_refund: which row of payments.';
COMMENT ON COLUMN webhook_deliveries.payment_provider IS 'Its provider; null means "unknown".';
CREATE OR REPLACE FUNCTION queue_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries
        (endpoint, event_id, order_no, kind, payment_id, payment_provider, at)
    SELECT e.name, t.id, t.order_no, t.kind, t.payment_id, t.payment_provider, t.at
    FROM webhook_endpoints e
    JOIN told t ON t.kind = ANY (e.kinds)
    ORDER BY t.id, e.name;
    RETURN NULL;
END
$$;
