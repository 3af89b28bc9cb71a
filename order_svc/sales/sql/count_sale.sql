-- Count units of a sale by the state of their orders; nothing if the sku is not registered.
--   $1 text  sku
SELECT s.total AS total_units,
       s.sold AS sold_units,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'pending'), 0) AS pending_units,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'paid'), 0) AS paid_units,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'cancelled'), 0) AS cancelled_units,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'rejected'), 0) AS rejected_units,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'refunded'), 0) AS refunded_units,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'refunded' AND NOT o.returned), 0)
           AS written_off_units,
       coalesce(sum(o.quantity) FILTER (WHERE o.restored_at IS NOT NULL), 0) AS restored_units
FROM sales s LEFT JOIN order_details o USING (sku)
WHERE s.sku = $1
GROUP BY s.sku
