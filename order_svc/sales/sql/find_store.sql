-- The current Redis primary of a shard, with how long it has been without a lease (negative while it
-- has one), whether another one was superseded before, and whether stores of the other kind have
-- leases: shards of a cluster, or the Redis on its own.
--   $1 text  replication id of that other one
--   $2 text  shard, or ''
SELECT generation, replication_id, mesh_id, token, previous_token, settled,
       clock_timestamp() - leased_until AS silent,
       EXISTS (SELECT FROM superseded_stores WHERE replication_id = $1) AS superseded,
       EXISTS (
           SELECT FROM store_generation AS other
           WHERE (other.shard = '') <> ($2 = '') AND other.leased_until > clock_timestamp()
       ) AS other_kind
FROM store_generation
WHERE shard = $2
