-- The current Redis primary, with how long it has been without a lease (negative while it has one),
-- and whether another one was superseded before.
--   $1 text  replication id of that other one
SELECT generation, replication_id, mesh_id, token, previous_token, settled,
       clock_timestamp() - leased_until AS silent,
       EXISTS (SELECT FROM superseded_stores WHERE replication_id = $1) AS superseded
FROM store_generation
