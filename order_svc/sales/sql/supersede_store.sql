-- Note that the current Redis primary is about to be superseded, and forget the oldest such notes.
--   $1 bigint  how many to keep of a shard
--   $2 text    shard, or ''
WITH forgotten AS (
    DELETE FROM superseded_stores
    WHERE shard = $2
        AND generation <= (SELECT generation FROM store_generation WHERE shard = $2) - $1
)
INSERT INTO superseded_stores (replication_id, generation, shard)
SELECT replication_id, generation, shard FROM store_generation WHERE generation > 0 AND shard = $2
ON CONFLICT (replication_id) DO UPDATE
SET generation = EXCLUDED.generation, shard = EXCLUDED.shard, superseded_at = now()
