-- Forget the policy of a sale.
--   $1 text  sku
DELETE FROM gate_policies WHERE sku = $1
