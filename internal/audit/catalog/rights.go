package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/fault"
)

// rights are who may do what in the cluster and in one database; anybody may read it. Owners are told for each schema, and for what is in it as a number: thousands of tables
// are one line. Of functions all may be run by everybody unless somebody has said otherwise, so only those are told that act as their owner.
const rights = `
SELECT 'power', rolname::text, p FROM pg_catalog.pg_roles, LATERAL (VALUES (rolsuper, 'superuser'), (rolcreaterole, 'createrole'), (rolcreatedb, 'createdb'),
       (rolreplication, 'replication'), (rolbypassrls, 'bypassrls')) AS has(it, p) WHERE it
UNION ALL SELECT 'member', pg_catalog.pg_get_userbyid(member)::text, pg_catalog.pg_get_userbyid(roleid)::text || CASE WHEN admin_option THEN ' (admin option)' ELSE '' END FROM pg_catalog.pg_auth_members
UNION ALL SELECT 'owner', pg_catalog.pg_get_userbyid(datdba)::text, 'database ' || datname FROM pg_catalog.pg_database
UNION ALL SELECT 'owner', pg_catalog.pg_get_userbyid(nspowner)::text, 'schema ' || nspname FROM pg_catalog.pg_namespace WHERE oid >= 16384 OR nspname = 'public'
UNION ALL SELECT 'owner', pg_catalog.pg_get_userbyid(c.relowner)::text, count(*) || ' in ' || n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname NOT LIKE 'pg\_%' GROUP BY c.relowner, n.nspname
UNION ALL SELECT 'public', 'PUBLIC', a.privilege_type || ' on database ' || datname FROM pg_catalog.pg_database,
       LATERAL pg_catalog.aclexplode(coalesce(datacl, pg_catalog.acldefault('d', datdba))) a WHERE a.grantee = 0
UNION ALL SELECT 'public', 'PUBLIC', a.privilege_type || ' on schema ' || nspname FROM pg_catalog.pg_namespace,
       LATERAL pg_catalog.aclexplode(coalesce(nspacl, pg_catalog.acldefault('n', nspowner))) a WHERE a.grantee = 0 AND (oid >= 16384 OR nspname = 'public')
UNION ALL SELECT 'public', 'PUBLIC', a.privilege_type || ' on ' || c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c,
       LATERAL pg_catalog.aclexplode(c.relacl) a WHERE a.grantee = 0 AND c.oid >= 16384
UNION ALL SELECT 'public', 'PUBLIC', 'EXECUTE on ' || p.oid::pg_catalog.regprocedure || ' (security definer)' FROM pg_catalog.pg_proc p,
       LATERAL pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a WHERE a.grantee = 0 AND p.prosecdef AND p.prorettype <> 'event_trigger'::pg_catalog.regtype AND p.oid >= 16384
ORDER BY 1, 2, 3 LIMIT 5000`

// Rights reads who may do what. It needs no rights of its own.
func Rights(ctx context.Context, conn *pgx.Conn) (*audit.Rights, error) {
	rows, err := conn.Query(ctx, rights)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "catalog.read")
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[audit.Right])
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "catalog.read")
	}
	return &audit.Rights{At: time.Now().UTC().Truncate(time.Second), Rows: all}, nil
}
