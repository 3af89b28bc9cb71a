-- The policy of a sale, if one was set.
--   $1 text  sku
SELECT sku, challenge_at, refuse_at, require_clean_history, admission_multiple
FROM gate_policies
WHERE sku = $1
