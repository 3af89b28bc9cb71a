-- Changes of a sale, oldest first.
--   $1 text  sku   $2 bigint  only ids above this one   $3 int  at most so many
SELECT id AS change_id, sku AS change_sku, operator AS change_operator, at AS changed_at,
       before AS change_before, after AS change_after, addition_id AS change_addition_id,
       added_units AS change_added_units
FROM sale_changes
WHERE sku = $1 AND id > $2
ORDER BY id
LIMIT $3
