-- The revision that the database has, and the session's limit, which we have set: "0" if it was lost.
SELECT max(version_num) AS version, current_setting('statement_timeout') AS statement_timeout
FROM alembic_version
