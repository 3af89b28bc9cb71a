-- Apart from `sales`, whose terms are what was registered: repeating CreateSale compares with them,
-- and a pause must not wait for the lock that the sale's orders take.
CREATE TABLE sale_records (
    sku        text COLLATE "C" PRIMARY KEY REFERENCES sales,
    state      text        NOT NULL CHECK (state IN ('open', 'paused', 'closed')),
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL,
    revision   bigint      NOT NULL CHECK (revision >= 1),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sale_records_window CHECK (ends_at > starts_at)
);
COMMENT ON TABLE sale_records IS
    'What operators made of a sale since it was registered. Redis is asked while the sale sells; '
    'this is what a rebuild loads.';
COMMENT ON COLUMN sale_records.revision IS
    'Number of the change, counted in Redis: a change that arrives late does not undo a later one.';
