-- Refunds.
ALTER TABLE orders ADD COLUMN refund_id text COLLATE "C";
ALTER TABLE orders ADD CONSTRAINT orders_refunded_by_a_refund
    CHECK ((refund_id IS NULL) = (refunded_at IS NULL));
CREATE UNIQUE INDEX orders_refund ON orders (refund_id) WHERE refund_id IS NOT NULL;
COMMENT ON COLUMN orders.refund_id IS 'The refund that paid it back; pays back no second order.';
COMMENT ON COLUMN sales.sold IS
    'Units of live orders (pending and paid), and units written off: refunded, but not for sale '
    'again. Never above total.';
COMMENT ON TABLE restore_outbox IS
    'Units that must go back to stock in Redis: one row for each cancelled, rejected or refunded '
    'order whose units are for sale again, written in the transaction that ended it.';

ALTER TABLE stock_ledger DROP CONSTRAINT stock_ledger_kind_check;
ALTER TABLE stock_ledger ADD CONSTRAINT stock_ledger_kind_check CHECK (kind IN (
    'loaded', 'reserved', 'rejected', 'paid', 'cancelled', 'restored', 'refunded', 'written_off'));
COMMENT ON COLUMN stock_ledger.kind IS
    'loaded: put on sale. reserved: made live. rejected: refused, never live. paid. cancelled: no '
    'longer live. restored: back in Redis. refunded: paid back, no longer live. written_off: paid '
    'back, but the units stay out for good.';

-- Reservations whose message broke the contract, or that the database refused.
ALTER TABLE orders DROP CONSTRAINT orders_cancel_reason_check;
ALTER TABLE orders ADD CONSTRAINT orders_cancel_reason_check
    CHECK (cancel_reason IN ('expired', 'buyer', 'no_stock', 'duplicate', 'invalid'));
ALTER TABLE orders DROP CONSTRAINT orders_rejected_for_a_reason;
ALTER TABLE orders ADD CONSTRAINT orders_rejected_for_a_reason CHECK (
    cancel_reason IS NULL
    OR (status = 'rejected') = (cancel_reason IN ('no_stock', 'duplicate', 'invalid')));
COMMENT ON COLUMN orders.cancel_reason IS
    'Cancelled: not paid in time (expired), given up (buyer). Rejected: no unit left (no_stock), '
    'the buyer had a live order (duplicate), the reservation could not be written (invalid).';

CREATE OR REPLACE VIEW order_details AS
    SELECT o.order_no, o.sku, o.user_id, o.request_id, o.quantity, o.amount_minor, o.currency,
           o.status, o.created_at, o.expires_at, o.paid_at, o.cancelled_at, o.payment_id,
           r.restored_at, o.refunded_at, o.refund_id, o.cancel_reason,
           r.order_no IS NOT NULL AS returned
    FROM orders o LEFT JOIN restore_outbox r USING (order_no);
COMMENT ON COLUMN order_details.returned IS 'Whether its units are for sale again, or about to be.';

-- The outbox of order events.
CREATE TABLE order_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_no   text COLLATE "C" NOT NULL,
    kind       text        NOT NULL CHECK (kind IN (
        'created', 'rejected', 'paid', 'cancelled', 'refunded', 'payment_too_late')),
    payment_id text COLLATE "C",
    at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT order_events_late_payment_is_named CHECK (
        (kind = 'payment_too_late') = (payment_id IS NOT NULL))
)
-- A queue: rows live for moments. Dead ones are swept by their number, however small the table is.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
COMMENT ON TABLE order_events IS
    'Events that subscribers have not been told yet: written in the transaction of the change, '
    'deleted once Kafka has acknowledged them. What an event says is read from the order, whose '
    'facts do not change once they are set.';
COMMENT ON COLUMN order_events.id IS 'Order of writing; a later event of an order has a higher one.';
COMMENT ON COLUMN order_events.payment_id IS 'Of payment_too_late: which row of late_payments.';
