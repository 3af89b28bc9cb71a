-- Repeating CreateSale compares with what was registered first.
ALTER TABLE sales
    ADD COLUMN terms_revision         bigint NOT NULL DEFAULT 0 CHECK (terms_revision >= 0),
    ADD COLUMN first_title            text,
    ADD COLUMN first_total            bigint,
    ADD COLUMN first_unit_price_minor bigint,
    ADD COLUMN first_currency         text;
COMMENT ON COLUMN sales.total IS
    'Units for sale: those registered, and each addition since. It never falls.';
COMMENT ON COLUMN sales.terms_revision IS 'How often title or price were changed.';
COMMENT ON COLUMN sales.first_title IS 'As registered; null while it was never changed.';
COMMENT ON COLUMN sales.first_total IS 'As registered; null while no units were added.';
COMMENT ON COLUMN sales.first_unit_price_minor IS 'As registered; null while it was never changed.';
COMMENT ON COLUMN sales.first_currency IS 'As registered; null while it was never changed.';

CREATE TABLE sale_changes (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku         text COLLATE "C" NOT NULL REFERENCES sales,
    operator    text COLLATE "C" NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    before      jsonb       NOT NULL,
    after       jsonb       NOT NULL,
    addition_id text COLLATE "C" CHECK (addition_id <> ''),
    added_units bigint CHECK (added_units > 0),
    CONSTRAINT sale_changes_additions_have_units CHECK (
        (addition_id IS NULL) = (added_units IS NULL)),
    CONSTRAINT sale_changes_addition_once UNIQUE (sku, addition_id)
);
COMMENT ON TABLE sale_changes IS
    'What operators changed of a sale, one row for each change, written in its transaction, never '
    'changed afterwards.';
COMMENT ON COLUMN sale_changes.operator IS 'Subject of their JWT; empty if they proved no identity.';
COMMENT ON COLUMN sale_changes.before IS
    'The facts that changed, as they were: a SaleFacts of sale.proto in protobuf''s JSON.';
COMMENT ON COLUMN sale_changes.after IS 'The same facts since.';
CREATE INDEX sale_changes_of_sale ON sale_changes (sku, id);
CREATE TRIGGER sale_changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sale_changes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Units that are added are on the ledger.
ALTER TABLE stock_ledger DROP CONSTRAINT stock_ledger_kind_check;
ALTER TABLE stock_ledger ADD CONSTRAINT stock_ledger_kind_check CHECK (kind IN (
    'loaded', 'added', 'reserved', 'rejected', 'paid', 'cancelled', 'restored', 'refunded',
    'written_off'));
ALTER TABLE stock_ledger DROP CONSTRAINT stock_ledger_of_an_order;
ALTER TABLE stock_ledger ADD CONSTRAINT stock_ledger_of_an_order CHECK (
    (kind IN ('loaded', 'added')) = (order_no IS NULL));
COMMENT ON COLUMN stock_ledger.kind IS
    'loaded: put on sale. added: put on sale later. reserved: made live. rejected: refused, never '
    'live. paid. cancelled: no longer live. restored: back in Redis. refunded: paid back, no longer '
    'live. written_off: paid back, but the units stay out for good.';

-- Events of sales leave through the outbox of order events.
ALTER TABLE order_events ADD COLUMN sale_change_id bigint;
ALTER TABLE order_events DROP CONSTRAINT order_events_kind_check;
ALTER TABLE order_events ADD CONSTRAINT order_events_kind_check CHECK (kind IN (
    'created', 'rejected', 'paid', 'cancelled', 'refunded', 'payment_too_late',
    'payment_to_refund', 'sale_changed'));
ALTER TABLE order_events ADD CONSTRAINT order_events_sale_change_is_named CHECK (
    (kind = 'sale_changed') = (sale_change_id IS NOT NULL));
COMMENT ON COLUMN order_events.order_no IS 'What it is about; of sale_changed: the sku of the sale.';
COMMENT ON COLUMN order_events.sale_change_id IS 'Of sale_changed: which row of sale_changes.';
ALTER TABLE webhook_deliveries ADD COLUMN sale_change_id bigint;
COMMENT ON COLUMN webhook_deliveries.order_no IS
    'What the event is about; of sale_changed: the sku of the sale.';
COMMENT ON COLUMN webhook_deliveries.sale_change_id IS 'Of sale_changed: which row of sale_changes.';
CREATE OR REPLACE FUNCTION queue_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (endpoint, event_id, order_no, kind, payment_id,
                                    payment_provider, sale_change_id, at)
    SELECT e.name, t.id, t.order_no, t.kind, t.payment_id, t.payment_provider, t.sale_change_id,
           t.at
    FROM webhook_endpoints e
    JOIN told t ON t.kind = ANY (e.kinds)
    ORDER BY t.id, e.name;
    RETURN NULL;
END
$$;
