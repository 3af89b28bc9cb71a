-- All limits that are set.
SELECT name, value, operator, at FROM gate_limits ORDER BY name
