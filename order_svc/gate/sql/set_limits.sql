-- Set limits.
--   $1 text[]  names   $2 float8[]  their values   $3 text  operator
INSERT INTO gate_limits (name, value, operator)
SELECT name, value, $3 FROM unnest($1::text[], $2::float8[]) AS given (name, value)
ON CONFLICT (name) DO UPDATE
SET value = excluded.value, operator = excluded.operator, at = now()
