-- Lock the current primary of a shard, and before it the Redis on its own, so that stores become
-- current one after the other; what is read afterwards is what the last one to raise a generation
-- has left.
--   $1 text  shard, or ''
SELECT FROM store_generation WHERE shard IN ('', $1) ORDER BY shard FOR UPDATE
