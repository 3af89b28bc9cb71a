-- Record that the units of these orders are back in stock; returns the numbers recorded now.
--   $1 text[]  order numbers
WITH due AS (
    SELECT order_no
    FROM restore_outbox
    WHERE order_no = ANY ($1) AND restored_at IS NULL
    ORDER BY order_no
    FOR NO KEY UPDATE
),
marked AS (
    UPDATE restore_outbox
    SET restored_at = now()
    FROM due
    WHERE restore_outbox.order_no = due.order_no AND restored_at IS NULL
    RETURNING restore_outbox.order_no, sku, quantity
),
recorded AS (
    INSERT INTO stock_ledger (sku, order_no, kind, quantity)
    SELECT sku, order_no, 'restored', quantity FROM marked
    WHERE NOT starts_with(sku, 'shadow-sale-')
)
SELECT order_no FROM marked
