-- Remove orders of a shadow sale with all that belongs to them; returns their numbers.
--   $1 text  sku, of a shadow sale; of any other nothing is removed
--   $2 int   at most this many
WITH doomed AS (
    SELECT order_no
    FROM orders
    WHERE sku = $1 AND starts_with($1, 'shadow-sale-')
    ORDER BY order_no
    LIMIT $2
),
returned AS (
    DELETE FROM restore_outbox USING doomed WHERE restore_outbox.order_no = doomed.order_no
),
sighted AS (
    DELETE FROM order_sightings USING doomed WHERE order_sightings.order_no = doomed.order_no
)
DELETE FROM orders USING doomed
WHERE orders.order_no = doomed.order_no
RETURNING orders.order_no
