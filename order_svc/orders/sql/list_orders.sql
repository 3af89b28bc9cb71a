-- A page of orders, newest first.
--   $1 text  only this sku, '' for all      $2 text  only this buyer, '' for all
--   $3 text  only this status, '' for all   $4 text  only numbers below this one, '' from the top
--   $5 int   at most this many
SELECT *
FROM order_details
WHERE ($1 = '' OR sku = $1)
  AND ($2 = '' OR user_id = $2)
  AND ($3 = '' OR status = $3)
  AND ($4 = '' OR order_no < $4)
ORDER BY order_no DESC
LIMIT $5
