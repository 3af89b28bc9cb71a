-- Forget limits; returns those that were set.
--   $1 text[]  names; null: all
DELETE FROM gate_limits WHERE $1::text[] IS NULL OR name = ANY ($1::text[])
RETURNING name, value
