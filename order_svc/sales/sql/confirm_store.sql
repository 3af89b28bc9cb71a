-- Extend the lease of the current Redis primary; returns it, or nothing if this is another one. A
-- server whose replication id has changed while it has run and kept its data is the same one. While
-- a Redis on its own has a lease no shard of a cluster gets one, and the other way round.
--   $1 text      replication id
--   $2 text      run id
--   $3 text      token that it keeps, or ''
--   $4 interval  lease
--   $5 text      mesh that it keeps, or ''
--   $6 text      shard whose primary it is, or ''
UPDATE store_generation
SET replication_id = $1, run_id = $2,
    leased_until = greatest(leased_until, clock_timestamp() + $4),
    discard = discard AND token <> $3,
    settled = settled OR (token = $3 AND opens_at <= clock_timestamp())
WHERE shard = $6
    AND (replication_id = $1 OR (run_id = $2 AND token = $3)) AND $5 IN ('', mesh_id)
    AND NOT EXISTS (
        SELECT FROM store_generation AS other
        WHERE (other.shard = '') <> ($6 = '') AND other.leased_until > clock_timestamp()
    )
RETURNING generation, token, mesh_id, discard, opens_at - clock_timestamp() AS wait
