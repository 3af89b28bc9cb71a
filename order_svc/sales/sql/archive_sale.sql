-- Put on record that a sale is archived. Returns its sku, or nothing if it is not closed on record,
-- or archived already.
--   $1 text  sku
UPDATE sale_records
SET archived_at = now()
WHERE sku = $1 AND state = 'closed' AND archived_at IS NULL
RETURNING sku
