-- Identifiers collate "C": they are compared as bytes, and order numbers sort by time.

CREATE TABLE sales (
    sku              text COLLATE "C" PRIMARY KEY CHECK (sku <> ''),
    title            text        NOT NULL,
    total            bigint      NOT NULL CHECK (total > 0),
    sold             bigint      NOT NULL DEFAULT 0,
    -- The bound keeps price times quantity, at most 1,000, inside a bigint.
    unit_price_minor bigint      NOT NULL CHECK (unit_price_minor BETWEEN 0 AND 9000000000000000),
    currency         text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    purchase_limit   integer     NOT NULL CHECK (purchase_limit BETWEEN 1 AND 1000),
    starts_at        timestamptz,
    ends_at          timestamptz NOT NULL,
    payment_window   interval    NOT NULL CHECK (payment_window BETWEEN '1 s' AND '7 days'),
    rebuy_allowed    boolean     NOT NULL,
    epoch            bigint      NOT NULL DEFAULT 1 CHECK (epoch >= 1),
    created_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sales_window CHECK (ends_at > starts_at),
    CONSTRAINT sales_never_oversold CHECK (sold BETWEEN 0 AND total)
);
COMMENT ON TABLE sales IS
    'Flash sales and what is sold of them. Whoever makes an order live, or ends one, locks its '
    'sale''s row first, then the orders by number: that order of locks keeps writers from '
    'deadlocking, and makes `sold` exact.';
COMMENT ON COLUMN sales.total IS 'Units for sale.';
COMMENT ON COLUMN sales.sold IS 'Units of live orders: pending and paid. Never above total.';
COMMENT ON COLUMN sales.unit_price_minor IS 'Price of one unit in the currency''s minor units.';
COMMENT ON COLUMN sales.starts_at IS 'When selling begins; null means at once.';
COMMENT ON COLUMN sales.payment_window IS 'How long a pending order may take to be paid.';
COMMENT ON COLUMN sales.rebuy_allowed IS 'Whether a buyer whose order was cancelled may buy again.';
COMMENT ON COLUMN sales.epoch IS 'Grows by one each time the sale is loaded into Redis anew.';

CREATE TABLE orders (
    order_no      text COLLATE "C" PRIMARY KEY CHECK (length(order_no) = 26),
    -- No foreign key: checking it row by row took a third of a batch's time (10 us an order), and
    -- every writer holds the lock of the sale's row already. Sales are never deleted.
    sku           text COLLATE "C" NOT NULL,
    user_id       text COLLATE "C" NOT NULL CHECK (user_id <> ''),
    request_id    text COLLATE "C" NOT NULL,
    quantity      integer     NOT NULL CHECK (quantity > 0),
    amount_minor  bigint      NOT NULL CHECK (amount_minor >= 0),
    currency      text        NOT NULL,
    status        text        NOT NULL
        CHECK (status IN ('pending', 'paid', 'cancelled', 'rejected', 'refunded')),
    epoch         bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    paid_at       timestamptz,
    payment_id    text COLLATE "C",
    cancelled_at  timestamptz,
    cancel_reason text CHECK (cancel_reason IN ('expired', 'buyer', 'no_stock', 'duplicate')),
    refunded_at   timestamptz,
    CONSTRAINT orders_expire_after_creation CHECK (expires_at > created_at),
    CONSTRAINT orders_paid_once_paid CHECK (
        (status IN ('paid', 'refunded')) = (paid_at IS NOT NULL)
        AND (paid_at IS NULL) = (payment_id IS NULL)),
    CONSTRAINT orders_paid_in_time CHECK (paid_at < expires_at),
    CONSTRAINT orders_cancelled_once_cancelled CHECK (
        (status IN ('cancelled', 'rejected')) = (cancelled_at IS NOT NULL)
        AND (cancelled_at IS NULL) = (cancel_reason IS NULL)),
    CONSTRAINT orders_rejected_for_a_reason CHECK (
        cancel_reason IS NULL
        OR (status = 'rejected') = (cancel_reason IN ('no_stock', 'duplicate'))),
    CONSTRAINT orders_refunded_once_refunded CHECK ((status = 'refunded') = (refunded_at IS NOT NULL))
);
COMMENT ON TABLE orders IS
    'What became of each reservation. pending -> paid -> refunded, pending -> cancelled; a '
    'reservation that the database refuses is born rejected. Each arrow is one compare-and-set.';
COMMENT ON COLUMN orders.amount_minor IS 'Price of one unit times quantity, in minor units.';
COMMENT ON COLUMN orders.epoch IS 'Epoch of the load of Redis that sold the units.';
COMMENT ON COLUMN orders.expires_at IS 'Until when it can be paid, by this server''s clock.';
COMMENT ON COLUMN orders.payment_id IS 'The payment that paid it; pays no second order.';
COMMENT ON COLUMN orders.cancelled_at IS 'When it was cancelled or rejected.';
COMMENT ON COLUMN orders.cancel_reason IS
    'Cancelled: not paid in time (expired), given up (buyer). Rejected: no unit left (no_stock), '
    'the buyer had a live order (duplicate).';

CREATE UNIQUE INDEX orders_one_live_per_buyer ON orders (user_id, sku)
    WHERE status IN ('pending', 'paid');
CREATE INDEX orders_pending_by_expiry ON orders (expires_at) WHERE status = 'pending';
CREATE UNIQUE INDEX orders_payment ON orders (payment_id) WHERE payment_id IS NOT NULL;
CREATE INDEX orders_of_buyer ON orders (user_id, order_no);
CREATE INDEX orders_of_sale ON orders (sku, order_no);

CREATE TABLE restore_outbox (
    order_no    text COLLATE "C" PRIMARY KEY REFERENCES orders,
    sku         text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    quantity    integer     NOT NULL CHECK (quantity > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    restored_at timestamptz CHECK (restored_at >= created_at)
);
COMMENT ON TABLE restore_outbox IS
    'Units that must go back to stock in Redis: one row for each cancelled or rejected order, '
    'written in the transaction that ended it.';
COMMENT ON COLUMN restore_outbox.restored_at IS 'When they were back; null while they are out.';
CREATE INDEX restore_outbox_unrestored ON restore_outbox (created_at, order_no)
    WHERE restored_at IS NULL;

CREATE VIEW order_details AS
    SELECT o.order_no, o.sku, o.user_id, o.request_id, o.quantity, o.amount_minor, o.currency,
           o.status, o.created_at, o.expires_at, o.paid_at, o.cancelled_at, o.payment_id,
           r.restored_at
    FROM orders o LEFT JOIN restore_outbox r USING (order_no);
COMMENT ON VIEW order_details IS 'An order as callers see it.';

CREATE TABLE late_payments (
    payment_id   text COLLATE "C" PRIMARY KEY CHECK (payment_id <> ''),
    order_no     text COLLATE "C" NOT NULL REFERENCES orders,
    amount_minor bigint      NOT NULL CHECK (amount_minor >= 0),
    currency     text        NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE late_payments IS
    'Payments for orders that could no longer be paid; each must be refunded, once.';

CREATE TABLE stock_ledger (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku      text COLLATE "C" NOT NULL,
    order_no text COLLATE "C",
    kind     text        NOT NULL CHECK (kind IN (
        'loaded', 'reserved', 'rejected', 'paid', 'cancelled', 'restored', 'refunded')),
    quantity bigint      NOT NULL CHECK (quantity > 0),
    at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stock_ledger_once UNIQUE (order_no, kind),
    CONSTRAINT stock_ledger_of_an_order CHECK ((kind = 'loaded') = (order_no IS NULL))
);
COMMENT ON TABLE stock_ledger IS
    'Every movement of units, written in the transaction of the change it describes, never '
    'changed afterwards. Replayed from nothing it proves that no moment was oversold.';
COMMENT ON COLUMN stock_ledger.id IS 'Order of writing; gaps mean nothing.';
COMMENT ON COLUMN stock_ledger.kind IS
    'loaded: put on sale. reserved: made live. rejected: refused, never live. paid. cancelled: no '
    'longer live. restored: back in Redis. refunded: paid back.';
CREATE UNIQUE INDEX stock_ledger_loaded_once ON stock_ledger (sku) WHERE kind = 'loaded';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;
COMMENT ON FUNCTION refuse_change() IS 'Keeps an append-only table append-only.';
CREATE TRIGGER stock_ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stock_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
