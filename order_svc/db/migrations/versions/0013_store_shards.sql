-- The row that there is is of a Redis on its own; the first one of a mesh, it keeps the mesh's id.
ALTER TABLE store_generation ADD COLUMN shard text NOT NULL DEFAULT '';
ALTER TABLE store_generation DROP CONSTRAINT store_generation_pkey;
ALTER TABLE store_generation ADD PRIMARY KEY (shard);
COMMENT ON COLUMN store_generation.shard IS
    'Shard of a Redis Cluster, as CLUSTER MYSHARDID names it; empty: the Redis on its own.';
ALTER TABLE superseded_stores ADD COLUMN shard text NOT NULL DEFAULT '';
COMMENT ON COLUMN superseded_stores.shard IS 'Whose generations its number is of.';
