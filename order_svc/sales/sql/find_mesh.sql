-- The id of this mesh, which Redis and Kafka keep as well.
SELECT mesh_id FROM store_generation WHERE shard = ''
