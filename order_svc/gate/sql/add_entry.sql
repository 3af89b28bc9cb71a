-- Add an entry; one of the same kind and value was removed before. Returns it.
--   $1 text  list    $2 text         kind                     $3 text  value
--   $4 text  reason  $5 timestamptz  when it ends, null: never  $6 text  operator
INSERT INTO gate_entries (list, kind, value, reason, expires_at, operator)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id, list, kind, value, reason, expires_at, operator, at
