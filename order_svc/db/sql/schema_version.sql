-- The revision that the database has.
SELECT max(version_num) AS version FROM alembic_version
