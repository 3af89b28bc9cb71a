-- Remove an entry; returns it.
--   $1 text  kind   $2 text  value
DELETE FROM gate_entries WHERE kind = $1 AND value = $2
RETURNING id, list, kind, value, reason, expires_at, operator, at
