-- What a buyer left unpaid, found without reading what they paid.
CREATE INDEX orders_unpaid_of_buyer ON orders (user_id, cancelled_at) WHERE status = 'cancelled';

-- Operators give units back.
ALTER TABLE orders DROP CONSTRAINT orders_cancel_reason_check;
ALTER TABLE orders ADD CONSTRAINT orders_cancel_reason_check
    CHECK (cancel_reason IN ('expired', 'buyer', 'no_stock', 'duplicate', 'invalid', 'voided'));
COMMENT ON COLUMN orders.cancel_reason IS
    'Cancelled: not paid in time (expired), given up (buyer), given back by an operator (voided). '
    'Rejected: no unit left (no_stock), the buyer had a live order (duplicate), the reservation '
    'could not be written (invalid).';

CREATE TABLE order_voids (
    order_no text COLLATE "C" PRIMARY KEY REFERENCES orders,
    sku      text COLLATE "C" NOT NULL,
    operator text COLLATE "C" NOT NULL,
    reason   text        NOT NULL CHECK (reason <> ''),
    at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE order_voids IS
    'Orders that an operator cancelled, one row each, written in the transaction that cancelled it, '
    'never changed afterwards.';
COMMENT ON COLUMN order_voids.operator IS 'Subject of their JWT.';
CREATE INDEX order_voids_of_sale ON order_voids (sku, order_no);
CREATE TRIGGER order_voids_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON order_voids
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE order_sightings (
    -- No foreign key: a sighting may arrive before its order.
    order_no    text COLLATE "C" PRIMARY KEY CHECK (length(order_no) = 26),
    address     bytea CHECK (length(address) = 16),
    fingerprint bytea CHECK (length(fingerprint) = 16),
    at          timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE order_sightings IS
    'From where orders were reserved, for operators who review a sale, and for the cap on unpaid '
    'orders of one payment fingerprint. Kept for SECKILL_ORDER_SIGHTINGS_KEPT_DAYS.';
COMMENT ON COLUMN order_sightings.address IS
    'Hash of the caller''s address (IPv6: its /64), keyed by the gateways: not the address.';
COMMENT ON COLUMN order_sightings.fingerprint IS 'Hash of the payment fingerprint, likewise.';
CREATE INDEX order_sightings_by_fingerprint ON order_sightings (fingerprint, at)
    WHERE fingerprint IS NOT NULL;
CREATE INDEX order_sightings_by_age ON order_sightings (at);
