-- What the sale itself counts, and whether the ledger is guarded against changes.
--   $1 text  sku
SELECT total, sold, now() AS read_at,
       (SELECT count(*) = 1 FROM pg_trigger
        WHERE tgrelid = 'stock_ledger'::regclass AND tgname = 'stock_ledger_append_only'
          AND tgenabled IN ('O', 'A')) AS append_only
FROM sales
WHERE sku = $1
