-- A claim moves a row into the future. Whoever dies with it leaves nothing behind that somebody
-- would have to clean up: the row comes due again.
ALTER TABLE restore_outbox ADD COLUMN due_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN restore_outbox.due_at IS
    'From when anybody may bring the units back; later than now while a replica has claimed it.';

-- What is claimed, or restored, costs nobody who looks for work anything.
CREATE INDEX restore_outbox_due ON restore_outbox (due_at) WHERE restored_at IS NULL;
DROP INDEX restore_outbox_unrestored;
