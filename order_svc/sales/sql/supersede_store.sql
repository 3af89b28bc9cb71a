-- Note that the current Redis primary is about to be superseded, and forget the oldest such notes.
--   $1 bigint  how many to keep
WITH forgotten AS (
    DELETE FROM superseded_stores
    WHERE generation <= (SELECT generation FROM store_generation) - $1
)
INSERT INTO superseded_stores (replication_id, generation)
SELECT replication_id, generation FROM store_generation WHERE generation > 0
ON CONFLICT (replication_id) DO UPDATE SET generation = EXCLUDED.generation, superseded_at = now()
