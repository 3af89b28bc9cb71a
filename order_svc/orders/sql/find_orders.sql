-- Orders by number; unknown numbers are left out.
--   $1 text[]  order numbers
SELECT *, status = 'pending' AND expires_at <= now() AS expired
FROM order_details
WHERE order_no = ANY ($1)
