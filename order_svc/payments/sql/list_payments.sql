-- A page of payments, oldest first.
--   $1 text    only in this state, '' for all   $2 text  only for this order, '' for all
--   $3 bigint  only numbers above this one      $4 int   at most this many
SELECT *
FROM payments
WHERE ($1 = '' OR state = $1) AND ($2 = '' OR order_no = $2) AND id > $3
ORDER BY id
LIMIT $4
