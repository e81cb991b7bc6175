package cover

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/fault"
)

// Where there is no pgAudit, two event triggers in every database tell of the objects that were changed, also inside functions and DO blocks, which log_statement does not see, and with their transaction.

// tell is the body of their function. It tells what pgAudit would, of one object a line, as package audit reads it, and it never keeps anybody from what they do: what fails here is said in the log.
//
// It is run as a superuser for one thing only: PostgreSQL repeats the client's whole statement with each line, a script of thousands of statements thousands of times, but where log_min_error_statement says that it is not wanted,
// and only a superuser may say so. It names nothing that somebody else can have made, and what it is given comes from PostgreSQL.
const tell = `
DECLARE
  stack text;
  said text;
  asked text := '';
  most int := 200;
  total bigint;
  written int := 0;
BEGIN
  GET DIAGNOSTICS stack = PG_CONTEXT;
  IF stack NOT LIKE E'%\nSQL statement "%' THEN -- else what was done stands in the context
    asked := left(current_query(), CASE WHEN stack LIKE E'%\n%' THEN 4000 ELSE 1000 END);
  END IF;
  FOR said, total IN EXECUTE CASE WHEN tg_event = 'sql_drop' THEN
      'SELECT $1::text[] || ARRAY[upper(object_type), object_identity], count(*) OVER () FROM pg_event_trigger_dropped_objects() WITH ORDINALITY WHERE NOT is_temporary
        AND (original OR object_type IN (''table'', ''view'', ''materialized view'', ''foreign table'', ''function'', ''procedure'', ''aggregate'', ''schema'', ''policy'', ''server'', ''extension''))'
    ELSE
      'SELECT $1::text[] || ARRAY[upper(object_type), object_identity], count(*) OVER () FROM pg_event_trigger_ddl_commands() WITH ORDINALITY WHERE NOT in_extension AND schema_name IS DISTINCT FROM ''pg_temp'''
    END || ' ORDER BY object_type <> ''table'', ordinality LIMIT $2 + 1' USING ARRAY[tg_tag], most
  LOOP
    IF most = 0 THEN -- the line behind the last
      said := ARRAY[tg_tag, 'MORE', total - written || ' more']::text;
    END IF;
    most := most - 1;
    written := written + 1;
    RAISE LOG 'howdah_watch: %', (SELECT string_agg(CASE WHEN f ~ E'[",\r\n]' THEN '"' || replace(f, '"', '""') || '"' ELSE coalesce(f, '') END, ',' ORDER BY n)
      FROM unnest(said::text[] || ARRAY[CASE WHEN current_setting('role') NOT IN ('none', session_user) THEN current_setting('role') ELSE '' END, asked]) WITH ORDINALITY AS u(f, n));
  END LOOP;
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'howdah_watch: FAILED,,%,,', replace(regexp_replace(SQLERRM, E'[",\r\n]', ' ', 'g'), ',', ' ');
END
`

// triggers are the event triggers, and what they are for.
var triggers = [][2]string{{"howdah_watch_changed", "ddl_command_end"}, {"howdah_watch_dropped", "sql_drop"}}

// member is where pg_depend says that something belongs to the extension plpgsql: pg_dump then leaves it out, which otherwise nobody but a superuser could restore, and not into a database that has it already.
const member = `d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = (SELECT oid FROM pg_catalog.pg_extension WHERE extname = 'plpgsql')`

// toldQuery says whether the triggers can be heard here - PostgreSQL translates the context by which their lines are known -, whether there is anything of them, whether the schema is somebody else's or holds something else, and
// whether all of it is there as we make it: nobody else has a right to what is in the schema, and the triggers fire whatever session_replication_role says.
const toldQuery = `WITH n AS (SELECT n.*, r.rolsuper FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = '` + audit.TriggerSchema + `'),
	p AS (SELECT p.*, r.rolsuper FROM pg_catalog.pg_proc p JOIN n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
		WHERE p.proname = 'tell' AND p.pronargs = 0 AND p.prorettype = 'event_trigger'::pg_catalog.regtype)
	SELECT EXISTS (SELECT FROM pg_catalog.pg_language WHERE lanname = 'plpgsql') AND EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'plpgsql')
			AND pg_catalog.current_setting('lc_messages') ~* '` + audit.Untranslated + `',
		EXISTS (SELECT FROM p),
		EXISTS (SELECT FROM n WHERE NOT n.rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = n.oid
			AND NOT (d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid IN (SELECT oid FROM p)))),
		EXISTS (SELECT FROM n, p WHERE n.nspacl IS NULL AND p.rolsuper AND p.prosrc = $1 AND p.prosecdef AND p.prolang = (SELECT oid FROM pg_catalog.pg_language WHERE lanname = 'plpgsql')
			AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp', 'log_min_error_statement=panic'] AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.objid = n.oid AND ` + member + `)
			AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND ` + member + `)
			AND (SELECT count(*) = 2 FROM pg_catalog.pg_event_trigger t WHERE t.evtfoid = p.oid AND t.evtenabled = 'A' AND t.evttags IS NULL
				AND (t.evtname, t.evtevent) IN (('howdah_watch_changed', 'ddl_command_end'), ('howdah_watch_dropped', 'sql_drop'))
				AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND d.objid = t.oid AND ` + member + `)))`

// Amiss is a query that tells what is wrong with the triggers in a database, in which they should be, and what mends it; no row: nothing. Anybody may ask.
var Amiss = `WITH told(heard, ours, strange, whole) AS (` + strings.ReplaceAll(toldQuery, "$1", literal(tell)) + `),
	t AS (SELECT t.evtname, t.evtenabled FROM pg_catalog.pg_event_trigger t WHERE t.evtname IN ('howdah_watch_changed', 'howdah_watch_dropped') AND ` + OwnFunction("t.evtfoid") + `)
	SELECT CASE WHEN NOT heard THEN 'PL/pgSQL is missing, or lc_messages is not English' WHEN strange THEN 'the schema ` + audit.TriggerSchema + ` is somebody else''s, or holds something else' WHEN NOT ours THEN 'there are none'
			WHEN EXISTS (SELECT FROM t WHERE evtenabled <> 'A') THEN (SELECT pg_catalog.string_agg(evtname || CASE evtenabled WHEN 'D' THEN ' is disabled' ELSE ' is not ENABLE ALWAYS' END, ', ') FROM t WHERE evtenabled <> 'A')
			ELSE 'they, their function or its rights are not as Howdah makes them' END,
		CASE WHEN NOT heard THEN 'CREATE EXTENSION IF NOT EXISTS plpgsql; ALTER SYSTEM SET lc_messages = ''C''; SELECT pg_reload_conf();' WHEN strange THEN 'ALTER SCHEMA ` + audit.TriggerSchema + ` RENAME TO not_howdahs;'
			ELSE 'BEGIN; ' || coalesce((SELECT pg_catalog.string_agg(c || ';', ' ') FROM (` + strings.ReplaceAll(awayQuery, "$1", "true") + `) AS away(c)), '') || ` + literal(" "+strings.Join(triggerScript(), "; ")+"; COMMIT;") + ` END
	FROM told WHERE NOT (heard AND whole AND NOT strange)`

// triggerScript makes the triggers where there is nothing of them.
func triggerScript() []string {
	const belongs = "ALTER EXTENSION plpgsql ADD "
	script := []string{"CREATE SCHEMA " + audit.TriggerSchema, belongs + "SCHEMA " + audit.TriggerSchema,
		"CREATE FUNCTION " + audit.TriggerFunction + "() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET log_min_error_statement = panic AS " + literal(tell), belongs + "FUNCTION " + audit.TriggerFunction + "()"}
	for _, t := range triggers {
		script = append(script, "CREATE EVENT TRIGGER "+t[0]+" ON "+t[1]+" EXECUTE FUNCTION "+audit.TriggerFunction+"()", "ALTER EVENT TRIGGER "+t[0]+" ENABLE ALWAYS", belongs+"EVENT TRIGGER "+t[0])
	}
	return script
}

// awayQuery gives the commands by which what there is of ours goes, and nothing with it; the schema only where it is wholly ours.
const awayQuery = `WITH n AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = '` + audit.TriggerSchema + `'),
	p AS (SELECT p.oid FROM pg_catalog.pg_proc p JOIN n ON n.oid = p.pronamespace WHERE p.proname = 'tell' AND p.pronargs = 0 AND p.prorettype = 'event_trigger'::pg_catalog.regtype),
	a AS (SELECT 1 AS at, 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AS class, t.oid, pg_catalog.format('EVENT TRIGGER %I', t.evtname) AS what FROM pg_catalog.pg_event_trigger t
			WHERE t.evtfoid IN (SELECT oid FROM p) OR t.evtname IN ('howdah_watch_changed', 'howdah_watch_dropped')
		UNION ALL SELECT 2, 'pg_catalog.pg_proc'::pg_catalog.regclass, oid, 'FUNCTION ` + audit.TriggerFunction + `()' FROM p
		UNION ALL SELECT 3, 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid, 'SCHEMA ` + audit.TriggerSchema + `' FROM n)
	SELECT c FROM a LEFT JOIN pg_catalog.pg_depend d ON d.classid = a.class AND d.objid = a.oid AND d.deptype = 'e' LEFT JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid,
		LATERAL (VALUES (1, pg_catalog.format('ALTER EXTENSION %I DROP ', x.extname) || what), (2, 'DROP ' || what || ' RESTRICT')) AS v(n, c)
	WHERE CASE n WHEN 1 THEN x.oid IS NOT NULL ELSE a.at < 3 OR $1 END ORDER BY a.at, what, n`

// OwnFunction is an expression that says whether a function, of which an expression gives the oid, is that of our triggers, as we make it.
func OwnFunction(oid string) string {
	return `EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
		WHERE p.oid = ` + oid + ` AND n.nspname = '` + audit.TriggerSchema + `' AND p.proname = 'tell' AND o.rolsuper AND p.prosrc = ` + literal(tell) + `)`
}

// Lacks tells whether the triggers of the connection's database are not as they should be and can be made so. Anybody may ask.
func Lacks(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var heard, ours, strange, whole bool
	err := conn.QueryRow(ctx, toldQuery, tell).Scan(&heard, &ours, &strange, &whole)
	return heard && !strange && !whole, failed(err)
}

// tells has the triggers of a database in place, or away. A schema of that name that is somebody else's stays as it is.
func (o *Options) tells(ctx context.Context, in *pgx.Conn, database string, do doing, wanted bool) error {
	var heard, ours, strange, whole bool
	if err := in.QueryRow(ctx, toldQuery, tell).Scan(&heard, &ours, &strange, &whole); err != nil {
		return failed(err)
	}
	wanted = wanted && heard // PL/pgSQL was taken away, or the lines would be taken for forged ones: then log_statement has to do
	switch {
	case strange && wanted:
		return fault.New(fault.Conflict, "cover.strange", fault.Args{"database": database, "schema": audit.TriggerSchema})
	case wanted && whole, !wanted && !ours:
		return nil
	}
	return failed(pgx.BeginFunc(ctx, in, func(pgx.Tx) error { // do takes the connection that the transaction is on
		rows, err := in.Query(ctx, awayQuery, !strange)
		if err != nil {
			return err
		}
		script, err := pgx.CollectRows(rows, pgx.RowTo[string]) // an older one, one that was tampered with, or what is not wanted
		if err != nil {
			return err
		}
		if wanted {
			script = append(script, triggerScript()...)
		}
		for i, sql := range script {
			what := ""
			if i == 0 {
				what = database + ": event triggers of " + audit.TriggerSchema
			}
			if err := do(in, what, sql); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Triggers has the event triggers in place in every database where there is no pgAudit, or takes them away: of a PostgreSQL that is somebody else's. A standby is left alone.
func Triggers(ctx context.Context, o Options, wanted bool) (Report, error) {
	var report Report
	conn, err := o.connect(ctx, "postgres")
	if err != nil {
		return report, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var standby, loaded bool
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), `+loadedQuery).Scan(&standby, &loaded); err != nil || standby {
		return report, failed(err)
	}
	do := report.doing(ctx)
	err = o.everywhere(ctx, conn, func(in *pgx.Conn, database string) error { return o.tells(ctx, in, database, do, wanted && !loaded) })
	return report, err
}

// doing does what is said, and notes what that was.
func (r *Report) doing(ctx context.Context) doing {
	return func(conn *pgx.Conn, what, sql string) error {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return failed(err)
		}
		if what != "" && !slices.Contains(r.Changed, what) {
			r.Changed = append(r.Changed, what)
		}
		return nil
	}
}

// everywhere does something in each database, on this connection where it is that one's. One in which it fails does not keep the others from it.
func (o *Options) everywhere(ctx context.Context, conn *pgx.Conn, each func(in *pgx.Conn, database string) error) error {
	databases, err := databasesOf(ctx, conn)
	if err != nil {
		return err
	}
	var all []error
	for _, database := range databases {
		all = append(all, o.within(ctx, conn, database, each))
	}
	return errors.Join(all...)
}

// within does something in a database.
func (o *Options) within(ctx context.Context, conn *pgx.Conn, database string, each func(in *pgx.Conn, database string) error) error {
	if database == "postgres" {
		return each(conn, database)
	}
	in, err := o.connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close(context.WithoutCancel(ctx)) }()
	return each(in, database)
}
