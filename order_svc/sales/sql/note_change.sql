-- Put a change on record and announce it, in the transaction that makes it.
--   $1 text  sku             $2 text    operator, '' if not known
--   $3 text  before, as JSON $4 text    after, as JSON
--   $5 text  addition, or null          $6 bigint  its units, or null
--   $7 text  id of the call, '' if not known
WITH noted AS (
    INSERT INTO sale_changes (sku, operator, before, after, addition_id, added_units)
    VALUES ($1, $2, $3::text::jsonb, $4::text::jsonb, $5, $6)
    RETURNING id, sku
)
INSERT INTO order_events (order_no, kind, sale_change_id, call_id)
SELECT sku, 'sale_changed', id, $7 FROM noted
