-- All that is on record about some orders, one row each.
--   $1 text[]  order numbers
SELECT * FROM (
    SELECT o.order_no, o.sku, o.created_at AS at, 10 AS rank, 'order' AS kind,
           jsonb_build_object('quantity', o.quantity, 'amount_minor', o.amount_minor,
               'currency', o.currency, 'user_id', o.user_id, 'request_id', o.request_id,
               'status', o.status, 'expires_at', o.expires_at,
               'cancel_reason', o.cancel_reason) AS facts,
           '' AS call_id
    FROM orders o WHERE o.order_no = ANY ($1)
    UNION ALL
    SELECT l.order_no, l.sku, l.at, 20, 'ledger',
           jsonb_build_object('kind', l.kind, 'quantity', l.quantity), ''
    FROM stock_ledger l WHERE l.order_no = ANY ($1)
    UNION ALL
    SELECT o.order_no, o.sku, o.cancelled_at, 30, 'ended',
           jsonb_build_object('reason', o.cancel_reason), ''
    FROM orders o WHERE o.order_no = ANY ($1) AND o.cancelled_at IS NOT NULL
    UNION ALL
    SELECT p.order_no, '', p.received_at, 40, 'payment',
           jsonb_build_object('provider', p.provider, 'payment_id', p.payment_id,
               'amount_minor', p.amount_minor, 'currency', p.currency, 'reason', p.reason), ''
    FROM payments p WHERE p.order_no = ANY ($1)
    UNION ALL
    SELECT p.order_no, '', p.refunded_at, 50, 'refund',
           jsonb_build_object('provider', p.provider, 'payment_id', p.payment_id,
               'refund_id', p.refund_id), ''
    FROM payments p WHERE p.order_no = ANY ($1) AND p.refunded_at IS NOT NULL
    UNION ALL
    SELECT v.order_no, v.sku, v.at, 60, 'void',
           jsonb_build_object('operator', v.operator, 'reason', v.reason), ''
    FROM order_voids v WHERE v.order_no = ANY ($1)
    UNION ALL
    SELECT r.order_no, r.sku, r.created_at, 70, 'restore',
           jsonb_build_object('quantity', r.quantity, 'restored_at', r.restored_at,
               'claimed_until', CASE WHEN r.restored_at IS NULL AND r.due_at > now()
                                THEN r.due_at END), ''
    FROM restore_outbox r WHERE r.order_no = ANY ($1)
    UNION ALL
    SELECT e.order_no, '', e.at, 80, 'event', jsonb_build_object('kind', e.kind), e.call_id
    FROM order_events e WHERE e.order_no = ANY ($1)
    UNION ALL
    SELECT d.order_no, '', coalesce(d.attempted_at, d.queued_at), 90, 'webhook',
           jsonb_build_object('id', d.id, 'endpoint', d.endpoint, 'kind', d.kind,
               'attempts', d.attempts, 'answer', d.answer, 'error', d.error,
               'dead', d.dead_at IS NOT NULL, 'dropped', d.dropped_note), d.call_id
    FROM webhook_deliveries d WHERE d.order_no = ANY ($1)
) story
ORDER BY order_no, at, rank
