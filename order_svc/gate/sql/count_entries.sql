-- How many other entries there are, and how many of them of this kind.
--   $1 text  kind   $2 text  value that is not counted
SELECT count(*) AS entries, count(*) FILTER (WHERE kind = $1) AS of_kind
FROM gate_entries
WHERE (kind, value) <> ($1, $2)
