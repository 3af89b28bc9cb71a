-- Note a shard of a cluster, of which no primary was confirmed yet; one that is known stays.
--   $1 text  shard
INSERT INTO store_generation
    (shard, generation, replication_id, run_id, token, previous_token, discard, opens_at,
     leased_until, mesh_id)
SELECT $1, 0, '', '', '', '', false, now(), now(), mesh_id
FROM store_generation
WHERE shard = ''
ON CONFLICT (shard) DO NOTHING
