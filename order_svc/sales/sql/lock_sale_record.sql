-- Let one change at a time be recorded of a sale. Not by the lock of its row, which its orders take:
-- what is in force is to be on record soon.
--   $1 text  sku
SELECT pg_advisory_xact_lock(hashtextextended('sale_records ' || $1, 0))
