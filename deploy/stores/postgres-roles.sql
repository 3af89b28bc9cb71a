-- The roles of the order database, made once by its administrator, in that database:
--   psql -d seckill -v owner_password=… -v order_password=… -f postgres-roles.sql
-- Only the order service and the migration connect. The other services have no role.

-- Makes and changes the schema: the migration, and nothing that runs.
CREATE ROLE seckill_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'owner_password';
-- The order service: rows, never the schema, so that it cannot take a trigger away from a ledger
-- that only grows.
CREATE ROLE seckill_order LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'order_password';

SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO seckill_owner, seckill_order', current_database()) \gexec
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO seckill_owner;
GRANT USAGE ON SCHEMA public TO seckill_order;
-- Of what later migrations make, too.
ALTER DEFAULT PRIVILEGES FOR ROLE seckill_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO seckill_order;
