-- Raise the revision and put the change on record, in the transaction that makes it; the rules are
-- locked.
--   $1 text  kind             $2 text  operator
--   $3 text  before, as JSON  $4 text  after, as JSON
WITH raised AS (
    UPDATE gate_revision SET revision = revision + 1 RETURNING revision
)
INSERT INTO gate_changes (revision, kind, operator, before, after)
SELECT revision, $1, $2, $3::text::jsonb, $4::text::jsonb FROM raised
RETURNING revision
