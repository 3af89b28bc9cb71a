-- Policies of sales, by sku.
--   $1 text  only skus above this one   $2 int  at most so many
SELECT sku, challenge_at, refuse_at, require_clean_history, admission_multiple
FROM gate_policies
WHERE sku > $1
ORDER BY sku
LIMIT $2
