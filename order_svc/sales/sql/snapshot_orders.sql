-- All orders of a sale, each kind by number: rejected ones first, then others that hold no units. The
-- last one of a buyer is their hold.
--   $1 text  sku
-- What `sold` counts is what holds units: live orders, and refunded ones that were written off.
SELECT order_no, user_id, request_id, quantity, status, restored_at,
       status IN ('pending', 'paid') OR status = 'refunded' AND NOT returned AS holds_units
FROM order_details
WHERE sku = $1
ORDER BY holds_units, status <> 'rejected', order_no
