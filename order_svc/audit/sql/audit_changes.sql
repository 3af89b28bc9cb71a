-- The latest changes of a sale by operators, oldest first.
--   $1 text  sku   $2 int  at most so many
SELECT *
FROM (
    SELECT id AS change_id, sku AS change_sku, operator AS change_operator, at AS changed_at,
           before AS change_before, after AS change_after, addition_id AS change_addition_id,
           added_units AS change_added_units
    FROM sale_changes
    WHERE sku = $1
    ORDER BY id DESC
    LIMIT $2
) latest
ORDER BY change_id
