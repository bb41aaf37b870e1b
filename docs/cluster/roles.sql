-- Two roles that are enough. Run once by the owner of the database, with the schema of the teacher's
-- tables in place of kee:  psql -v ON_ERROR_STOP=1 -f roles.sql
--
--   raydistill_reader   reads the teacher's tables: build, doctor, drift
--   raydistill_writer   reads them, too, and owns the schema raydistill: backfill, registry, serve
--
-- They cannot log in. Give them to people and services:  GRANT raydistill_reader TO alice;
-- `label` writes into the teacher's tables and needs INSERT there besides; give it to that one role.
BEGIN;

CREATE ROLE raydistill_reader NOLOGIN;
CREATE ROLE raydistill_writer NOLOGIN;

-- Nobody but these: PUBLIC may neither make objects nor see the output.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

GRANT USAGE ON SCHEMA kee TO raydistill_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA kee TO raydistill_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA kee GRANT SELECT ON TABLES TO raydistill_reader;

GRANT raydistill_reader TO raydistill_writer;
CREATE SCHEMA IF NOT EXISTS raydistill AUTHORIZATION raydistill_writer;

-- Readers see what was written, and cannot change it.
GRANT USAGE ON SCHEMA raydistill TO raydistill_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA raydistill TO raydistill_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE raydistill_writer IN SCHEMA raydistill
    GRANT SELECT ON TABLES TO raydistill_reader;

COMMIT;

-- A role that logs in and writes as raydistill_writer, so that all output has one owner:
--   CREATE ROLE backfill LOGIN PASSWORD '...' IN ROLE raydistill_writer;
--   ALTER ROLE backfill SET role = raydistill_writer;
