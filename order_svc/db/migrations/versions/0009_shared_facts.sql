-- While a release or a list of events is rolled out, replicas name different kinds: an endpoint is
-- told of all that any of them has named lately.
ALTER TABLE webhook_endpoints ADD COLUMN kinds_named jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN webhook_endpoints.kinds_named IS
    'When a replica last named each kind: {kind: time}. `kinds` are those named lately.';

-- Two meshes on one Redis would take each other's reservations.
ALTER TABLE store_generation
    ADD COLUMN mesh_id text NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', '');
COMMENT ON COLUMN store_generation.mesh_id IS
    'Which mesh this is. Its Redis keeps it too, and no other mesh uses that Redis.';
