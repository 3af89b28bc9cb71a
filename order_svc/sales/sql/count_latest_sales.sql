-- Count units of the latest sales by the state of their orders: of those that sell, or that ended
-- within the last hour, the latest start first.
--   $1 int  at most so many
WITH latest AS (
    SELECT s.sku, s.total
    FROM sales s
    LEFT JOIN sale_records r USING (sku),
    LATERAL (SELECT coalesce(r.starts_at, s.starts_at, s.created_at) AS starts_at,
                    coalesce(r.ends_at, s.ends_at) AS ends_at,
                    coalesce(r.state, 'open') <> 'closed' AS may_sell) w
    WHERE NOT starts_with(s.sku, 'shadow-sale-')
      AND w.starts_at <= now() AND w.ends_at > now() - interval '1 hour'
    ORDER BY w.may_sell AND w.ends_at > now() DESC, w.starts_at DESC, s.sku
    LIMIT $1
)
SELECT l.sku, l.total,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'pending'), 0)::bigint AS pending,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'paid'), 0)::bigint AS paid,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'cancelled'), 0)::bigint AS cancelled,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'rejected'), 0)::bigint AS rejected,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'refunded'), 0)::bigint AS refunded,
       coalesce(sum(o.quantity) FILTER (WHERE o.status = 'refunded' AND NOT o.returned), 0)::bigint
           AS written_off,
       coalesce(sum(o.quantity) FILTER (WHERE o.restored_at IS NOT NULL), 0)::bigint AS restored,
       coalesce(sum(o.quantity) FILTER (WHERE o.returned AND o.restored_at IS NULL), 0)::bigint
           AS returning
FROM latest l LEFT JOIN order_details o USING (sku)
GROUP BY l.sku, l.total
