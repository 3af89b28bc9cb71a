-- Change title and price. The caller holds the lock of lock_sale.sql.
--   $1 text  sku   $2 text  title   $3 bigint  unit price, minor units   $4 text  currency
UPDATE sales
SET title = $2, unit_price_minor = $3, currency = $4, terms_revision = terms_revision + 1,
    first_title = coalesce(first_title, title),
    first_unit_price_minor = coalesce(first_unit_price_minor, unit_price_minor),
    first_currency = coalesce(first_currency, currency)
WHERE sku = $1
