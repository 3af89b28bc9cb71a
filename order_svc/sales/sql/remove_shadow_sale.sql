-- Remove a shadow sale without orders; returns its sku if there was one.
--   $1 text  sku, of a shadow sale; of any other nothing is removed
WITH recorded AS (
    DELETE FROM sale_records WHERE sku = $1 AND starts_with($1, 'shadow-sale-')
)
DELETE FROM sales WHERE sku = $1 AND starts_with($1, 'shadow-sale-')
RETURNING sku
