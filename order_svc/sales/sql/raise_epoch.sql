-- Give a sale its next epoch; returns it, or nothing if the sku is not registered. It is to be loaded
-- again: archived it is no more.
--   $1 text  sku
WITH fetched AS (
    UPDATE sale_records SET archived_at = NULL WHERE sku = $1 AND archived_at IS NOT NULL
)
UPDATE sales
SET epoch = epoch + 1
WHERE sku = $1
RETURNING epoch
