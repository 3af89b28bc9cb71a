-- One row, locked while the generation is raised: a confirmation comes before or after.
CREATE TABLE store_generation (
    only_row       boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    generation     bigint      NOT NULL CHECK (generation >= 0),
    replication_id text        NOT NULL,
    run_id         text        NOT NULL,
    token          text        NOT NULL,
    previous_token text        NOT NULL,
    settled        boolean     NOT NULL DEFAULT false,
    discard        boolean     NOT NULL,
    opens_at       timestamptz NOT NULL,
    leased_until   timestamptz NOT NULL
);
COMMENT ON TABLE store_generation IS
    'The Redis primary that may promise units (docs/adr/0019).';
COMMENT ON COLUMN store_generation.generation IS '0 until a primary was confirmed.';
COMMENT ON COLUMN store_generation.token IS
    'Kept in Redis too, and so by its replicas and its files: who has it has this generation''s data.';
COMMENT ON COLUMN store_generation.previous_token IS
    'Of the generation before; it counts too until this one is settled.';
COMMENT ON COLUMN store_generation.settled IS
    'Whether the primary was seen to keep the token once it might promise units.';
COMMENT ON COLUMN store_generation.discard IS
    'Whether the primary''s sales were stale when it became current.';
COMMENT ON COLUMN store_generation.opens_at IS
    'When the leases of the primary before are over.';
COMMENT ON COLUMN store_generation.leased_until IS
    'Until when inventory services may promise units by the current one, unless they ask again.';

INSERT INTO store_generation
    (generation, replication_id, run_id, token, previous_token, discard, opens_at, leased_until)
VALUES (0, '', '', '', '', false, now(), now());

CREATE TABLE superseded_stores (
    replication_id text        PRIMARY KEY,
    generation     bigint      NOT NULL,
    superseded_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE superseded_stores IS
    'Replication ids of primaries that were current once, the latest ones.';
CREATE INDEX superseded_stores_generation ON superseded_stores (generation);
