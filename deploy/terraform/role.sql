-- The application's own role in RDS, which logs in by IAM alone and owns the database. Once, as the master user; safe to
-- repeat. make-role.sh runs it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'txwatch') THEN
        CREATE ROLE txwatch LOGIN;
    END IF;
END
$$;
GRANT rds_iam TO txwatch;
-- Whoever gives a database away must be able to become the one who gets it.
GRANT txwatch TO CURRENT_USER;
ALTER DATABASE txwatch OWNER TO txwatch;
REVOKE txwatch FROM CURRENT_USER;
