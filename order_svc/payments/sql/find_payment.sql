-- A payment by the id that its provider gave it; one that was recorded before providers were is
-- found by its id alone.
--   $1 text  provider   $2 text  payment id
SELECT *
FROM payments
WHERE provider IN ($1, 'unknown') AND payment_id = $2
ORDER BY provider = 'unknown'
LIMIT 1
