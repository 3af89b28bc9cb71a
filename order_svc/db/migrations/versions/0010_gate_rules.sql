-- One row: it is locked by each change of the rules, so that they are made one at a time.
CREATE TABLE gate_revision (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint  NOT NULL CHECK (revision >= 0)
);
COMMENT ON TABLE gate_revision IS 'Revision of the rules of the gate; each change raises it by one.';
INSERT INTO gate_revision (revision) VALUES (0);

CREATE TABLE gate_limits (
    name     text COLLATE "C" PRIMARY KEY,
    value    double precision NOT NULL CHECK (value >= 0 AND value < 'infinity'),
    operator text COLLATE "C" NOT NULL,
    at       timestamptz      NOT NULL DEFAULT now()
);
COMMENT ON TABLE gate_limits IS
    'Limits in the place of the gateways'' settings; without a row the setting is in force.';
COMMENT ON COLUMN gate_limits.operator IS 'Subject of the JWT of who set it.';

CREATE TABLE gate_entries (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    list       text COLLATE "C" NOT NULL CHECK (list IN ('allow', 'deny')),
    kind       text COLLATE "C" NOT NULL CHECK (kind IN ('user', 'network', 'user_agent')),
    value      text COLLATE "C" NOT NULL CHECK (value <> ''),
    reason     text             NOT NULL,
    expires_at timestamptz,
    operator   text COLLATE "C" NOT NULL,
    at         timestamptz      NOT NULL DEFAULT now(),
    CONSTRAINT gate_entries_once UNIQUE (kind, value)
);
COMMENT ON TABLE gate_entries IS
    'Who is allowed and denied at the gate. A row is never changed: another one takes its place.';
COMMENT ON COLUMN gate_entries.expires_at IS 'When it ends by itself; null: never.';
COMMENT ON COLUMN gate_entries.operator IS 'Subject of the JWT of who added it.';

CREATE TABLE gate_policies (
    sku                   text COLLATE "C" PRIMARY KEY REFERENCES sales,
    challenge_at          int              NOT NULL CHECK (challenge_at BETWEEN 0 AND 100),
    refuse_at             int              NOT NULL CHECK (refuse_at BETWEEN 0 AND 100),
    require_clean_history boolean          NOT NULL,
    admission_multiple    double precision NOT NULL CHECK (
        admission_multiple = 0 OR admission_multiple BETWEEN 1 AND 1000)
);
COMMENT ON TABLE gate_policies IS
    'What a sale asks of its buyers; without a row it asks for nothing. Columns are the fields of '
    'SalePolicy in gate.proto.';

CREATE TABLE gate_changes (
    revision bigint PRIMARY KEY,
    kind     text COLLATE "C" NOT NULL CHECK (kind IN (
        'limits_set', 'limits_reset', 'entry_added', 'entry_removed', 'policy_set')),
    operator text COLLATE "C" NOT NULL,
    at       timestamptz      NOT NULL DEFAULT now(),
    before   jsonb            NOT NULL,
    after    jsonb            NOT NULL
);
COMMENT ON TABLE gate_changes IS
    'What operators changed of the rules, one row for each revision, written in its transaction, '
    'never changed afterwards.';
COMMENT ON COLUMN gate_changes.operator IS 'Subject of the operator''s JWT.';
COMMENT ON COLUMN gate_changes.before IS 'What was in force; null for nothing.';
COMMENT ON COLUMN gate_changes.after IS 'What is in force since; null for nothing.';
CREATE TRIGGER gate_changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON gate_changes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
