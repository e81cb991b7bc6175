package cover

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
)

// Where there is no pgAudit, two event triggers in every database tell of the objects that were changed, also inside functions and DO blocks, which log_statement does not see, and with their transaction.

// tell is the body of their function. It tells what pgAudit would, of one object a line, as package audit reads it, and it never keeps anybody from what they do: what fails here is said in the log.
const tell = `
DECLARE
  stack text;
  said text;
  asked text := '';
BEGIN
  GET DIAGNOSTICS stack = PG_CONTEXT;
  IF stack LIKE E'%\n%' AND stack NOT LIKE E'%\nSQL statement "%' THEN -- else what was done stands in the context, or in the line of log_statement
    asked := left(current_query(), 4000);
  END IF;
  FOR said IN EXECUTE CASE WHEN tg_event = 'sql_drop' THEN
      'SELECT $1::text[] || ARRAY[upper(object_type), object_identity] FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary
        AND (original OR object_type IN (''table'', ''view'', ''materialized view'', ''foreign table'', ''function'', ''procedure'', ''aggregate'', ''schema'', ''policy'', ''server'', ''extension''))'
    ELSE
      'SELECT $1::text[] || ARRAY[upper(object_type), object_identity] FROM pg_event_trigger_ddl_commands() WHERE NOT in_extension AND schema_name IS DISTINCT FROM ''pg_temp'''
    END || ' LIMIT 200' USING ARRAY[tg_tag]
  LOOP
    RAISE LOG 'howdah_watch: %', (SELECT string_agg(CASE WHEN f ~ E'[",\r\n]' THEN '"' || replace(f, '"', '""') || '"' ELSE coalesce(f, '') END, ',' ORDER BY n)
      FROM unnest(said::text[] || ARRAY[CASE WHEN current_user <> session_user THEN current_user::text ELSE '' END, asked]) WITH ORDINALITY AS u(f, n));
  END LOOP;
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'howdah_watch: FAILED,,%,,', replace(regexp_replace(SQLERRM, E'[",\r\n]', ' ', 'g'), ',', ' ');
END
`

// triggers are the event triggers, and what they are for.
var triggers = [][2]string{{"howdah_watch_changed", "ddl_command_end"}, {"howdah_watch_dropped", "sql_drop"}}

// toldQuery says whether all of it is there as we make it: nobody else has a right to what is in the schema, and the triggers fire whatever session_replication_role says.
const toldQuery = `SELECT EXISTS (SELECT FROM pg_catalog.pg_language WHERE lanname = 'plpgsql'), EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = '` + audit.TriggerSchema + `'),
	EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
		WHERE n.nspname = '` + audit.TriggerSchema + `' AND r.rolsuper AND n.nspacl IS NULL AND p.proname = 'tell' AND p.pronargs = 0 AND o.rolsuper AND p.prosrc = $1 AND NOT p.prosecdef
			AND p.prorettype = 'event_trigger'::pg_catalog.regtype AND p.prolang = (SELECT oid FROM pg_catalog.pg_language WHERE lanname = 'plpgsql') AND p.proconfig = '{search_path=pg_catalog}'
			AND (SELECT count(*) = 2 FROM pg_catalog.pg_event_trigger t WHERE t.evtfoid = p.oid AND t.evtenabled = 'A' AND t.evttags IS NULL
				AND (t.evtname, t.evtevent) IN (('howdah_watch_changed', 'ddl_command_end'), ('howdah_watch_dropped', 'sql_drop'))))`

// OwnFunction is an expression that says whether a function, of which an expression gives the oid, is that of our triggers, as we make it.
func OwnFunction(oid string) string {
	return `EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
		WHERE p.oid = ` + oid + ` AND n.nspname = '` + audit.TriggerSchema + `' AND p.proname = 'tell' AND o.rolsuper AND p.prosrc = ` + literal(tell) + `)`
}

// tells has the triggers of a database in place, or away.
func (o *Options) tells(ctx context.Context, in *pgx.Conn, database string, do doing, wanted bool) error {
	var speaks, there, whole bool
	if err := in.QueryRow(ctx, toldQuery, tell).Scan(&speaks, &there, &whole); err != nil {
		return failed(err)
	}
	wanted = wanted && speaks // somebody has taken PL/pgSQL away: then log_statement has to do
	if wanted == there && (whole || !wanted) {
		return nil
	}
	return failed(pgx.BeginFunc(ctx, in, func(pgx.Tx) error { // do takes the connection that the transaction is on
		var script []string
		if there { // somebody else's, an older one, or one that was tampered with
			script = append(script, "DROP SCHEMA "+audit.TriggerSchema+" CASCADE")
		}
		if wanted {
			script = append(script, "CREATE SCHEMA "+audit.TriggerSchema,
				"CREATE FUNCTION "+audit.TriggerFunction+"() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog AS "+literal(tell))
			for _, t := range triggers {
				script = append(script, "CREATE EVENT TRIGGER "+t[0]+" ON "+t[1]+" EXECUTE FUNCTION "+audit.TriggerFunction+"()", "ALTER EVENT TRIGGER "+t[0]+" ENABLE ALWAYS")
			}
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

// everywhere does something in each database, on this connection where it is that one's.
func (o *Options) everywhere(ctx context.Context, conn *pgx.Conn, each func(in *pgx.Conn, database string) error) error {
	databases, err := databasesOf(ctx, conn)
	if err != nil {
		return err
	}
	for _, database := range databases {
		in := conn
		if database != "postgres" {
			if in, err = o.connect(ctx, database); err != nil {
				return err
			}
		}
		err = each(in, database)
		if in != conn {
			_ = in.Close(context.WithoutCancel(ctx))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
