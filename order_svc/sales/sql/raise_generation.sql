-- Make a Redis primary the current one, under the next generation; returns it.
--   $1 text      replication id
--   $2 text      run id
--   $3 text      its token from now on
--   $4 interval  lease
--   $5 bool      whether its sales are stale
--   $6 text      shard whose primary it is, or ''
UPDATE store_generation
SET generation = generation + 1, replication_id = $1, run_id = $2, token = $3,
    previous_token = token, settled = false, discard = $5,
    opens_at = greatest(leased_until, clock_timestamp()),
    leased_until = greatest(leased_until, clock_timestamp() + $4)
WHERE shard = $6
RETURNING generation, token, mesh_id, discard, opens_at - clock_timestamp() AS wait
