-- Count what is left to do for a sale; nothing if the sku is not registered.
--   $1 text  sku
SELECT coalesce(r.state, 'open') AS state,
       (SELECT count(*) FROM orders WHERE sku = $1 AND status = 'pending') AS pending_orders,
       (SELECT count(*) FROM restore_outbox WHERE sku = $1 AND restored_at IS NULL)
           AS unrestored_orders,
       (SELECT count(*) FROM order_events e JOIN orders o USING (order_no) WHERE o.sku = $1)
           AS unsent_events,
       (SELECT count(*) FROM webhook_deliveries d JOIN orders o USING (order_no)
        WHERE o.sku = $1 AND d.dead_at IS NULL) AS open_deliveries
FROM sales s LEFT JOIN sale_records r USING (sku)
WHERE s.sku = $1
