-- What the server is, how many connections it has and may have, its clock, and our schema's revision.
SELECT current_setting('server_version') AS version,
       current_setting('max_connections')::int AS connections_max,
       (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend')
           AS connections,
       extract(epoch FROM clock_timestamp())::float8 AS now_s,
       (SELECT max(version_num) FROM alembic_version) AS revision
