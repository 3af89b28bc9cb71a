-- Set the policy of a sale; the one that it had was removed before.
--   $1 text  sku            $2 int   challenge_at
--   $3 int   refuse_at      $4 bool  require_clean_history
--   $5 float8  admission_multiple
INSERT INTO gate_policies (sku, challenge_at, refuse_at, require_clean_history, admission_multiple)
VALUES ($1, $2, $3, $4, $5)
