-- The units of an addition that is on record, and how many additions the sale has; one row.
--   $1 text  sku   $2 text  the addition's id
SELECT max(added_units) FILTER (WHERE addition_id = $2) AS added_units,
       count(addition_id) AS additions
FROM sale_changes
WHERE sku = $1
