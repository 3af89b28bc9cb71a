-- Record from where orders were reserved; what is on record stays.
--   $1 text[]   order numbers
--   $2 bytea[]  keyed hashes of addresses, empty for none
--   $3 bytea[]  keyed hashes of payment fingerprints, likewise
-- Returns the numbers recorded now.
INSERT INTO order_sightings (order_no, address, fingerprint)
SELECT order_no, nullif(address, ''), nullif(fingerprint, '')
FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS s (order_no, address, fingerprint)
ORDER BY order_no
ON CONFLICT (order_no) DO NOTHING
RETURNING order_no
