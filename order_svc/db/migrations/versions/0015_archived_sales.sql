-- A sale that an operator has archived is not lost: Redis has nothing of it, and is to have nothing.
ALTER TABLE sale_records ADD COLUMN archived_at timestamptz;
COMMENT ON COLUMN sale_records.archived_at IS
    'When an operator took the sale out of Redis; NULL unless it is archived.';
