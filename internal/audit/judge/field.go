package judge

import (
	"fmt"
	"time"

	"cel.dev/cel-go/cel"
)

// Field is one thing that rules can name. Names follow OCSF (Datastore Activity) where it has them.
type Field struct {
	Name  string
	Says  string
	value func(*Event) any // a pointer into the event
}

// Fields are all that a rule sees of an event.
var Fields = []Field{
	{"kind", "PostgreSQL's command tag in lower case (create role, alter system, grant role, select), or login, login.failed, login.replication, error, record.forged, trail.gap, catalog.unexplained, catalog.vanished, setting.changed, hba.changed, trigger.failed, canary.missing", func(e *Event) any { return &e.Kind }},
	{"time", "when, UTC", func(e *Event) any { return &e.Time }},
	{"actor.user.name", "login role", func(e *Event) any { return &e.Actor }},
	{"actor.session.uid", "PostgreSQL's session id", func(e *Event) any { return &e.Session }},
	{"actor.app_name", "application_name: what the client says of itself", func(e *Event) any { return &e.App }},
	{"src_endpoint.ip", "address of the client, [local] for a Unix socket", func(e *Event) any { return &e.Source }},
	{"database.name", "database of the session", func(e *Event) any { return &e.DB }},
	{"query_info.query_string", "the statement, as logged", func(e *Event) any { return &e.Text }},
	{"status", "unknown, committed, rolled back, denied, failed", func(e *Event) any { return &e.Status }},
	{"status_code", "SQLSTATE of what failed", func(e *Event) any { return &e.Code }},
	{"status_detail", "in words, of events that are no statement", func(e *Event) any { return &e.Detail }},
	{"audit.class", "pgAudit's class: ROLE, DDL, MISC, READ, WRITE, FUNCTION; DDL and ROLE also of our event triggers, where there is no pgAudit; empty for what log_statement has written", func(e *Event) any { return &e.Class }},
	{"audit.object", "pgAudit's object auditing has written it", func(e *Event) any { return &e.Object }},
	{"rows", "rows that a DML statement touched; -1 when not logged", func(e *Event) any { return &e.Rows }},
	{"object.type", "as pgAudit says", func(e *Event) any { return &e.ObjectType }},
	{"object.name", "as pgAudit says", func(e *Event) any { return &e.ObjectName }},
	{"names", "objects that the statement names", func(e *Event) any { return &e.Names }},
	{"does", "what the statement does beside its kind: cascade, temporary, owner to, rename, rename to, disable trigger, disable row level security, copy program, copy file, read file, write file, list files, connect out, replication slot, publish everything, session authorization, ...", func(e *Event) any { return &e.Does }},
	{"from", "tables that are copied whole, without a condition", func(e *Event) any { return &e.From }},
	{"hosts", "hosts that this server is connected with", func(e *Event) any { return &e.Hosts }},
	{"owner", "the new owner", func(e *Event) any { return &e.Owner }},
	{"house", "it is done to Howdah's own tables (rooms, messages, accounts, the tables of the trail), or to what holds them, and not by a migration of its own", func(e *Event) any { return &e.House }},
	{"role.name", "the role that is made, changed or dropped", func(e *Event) any { return &e.Role.Name }},
	{"role.gains", "superuser, createrole, createdb, login, replication, bypassrls, inherit, password, no expiry", func(e *Event) any { return &e.Role.Gains }},
	{"role.loses", "the same after NO", func(e *Event) any { return &e.Role.Loses }},
	{"role.hidden", "pgAudit cut the statement at its password", func(e *Event) any { return &e.Role.Hidden }},
	{"role.odd", "the name is made to be misread: blanks at its ends, unseen characters, letters of several scripts", func(e *Event) any { return &e.Role.Odd }},
	{"role.alike", "a known role that the name looks like", func(e *Event) any { return &e.Role.Alike }},
	{"grant.roles", "memberships given or taken", func(e *Event) any { return &e.Grant.Roles }},
	{"grant.rights", "rights given or taken, in lower case; all for ALL PRIVILEGES", func(e *Event) any { return &e.Grant.Rights }},
	{"grant.on", "table, function, schema, parameter, database, ...", func(e *Event) any { return &e.Grant.On }},
	{"grant.to", "to whom, or from whom", func(e *Event) any { return &e.Grant.To }},
	{"grant.further", "WITH ADMIN or GRANT OPTION", func(e *Event) any { return &e.Grant.Further }},
	{"grant.every", "on every object of a schema, or by default without a schema", func(e *Event) any { return &e.Grant.Every }},
	{"setting.name", "the setting that is changed", func(e *Event) any { return &e.Set.Name }},
	{"setting.value", "its new value", func(e *Event) any { return &e.Set.Value }},
	{"setting.scope", "system, database, role, function, session", func(e *Event) any { return &e.Set.Scope }},
	{"setting.target", "which role or database", func(e *Event) any { return &e.Set.Target }},
	{"setting.weakens", "less is logged or audited than before", func(e *Event) any { return &e.Set.Weakens }},
	{"setting.runs", "the value is a program or a library that PostgreSQL runs", func(e *Event) any { return &e.Set.Runs }},
	{"setting.opens", "it lets more people in, or guards less", func(e *Event) any { return &e.Set.Opens }},
	{"setting.risks", "data can be lost", func(e *Event) any { return &e.Set.Risks }},
	{"code.language", "its language", func(e *Event) any { return &e.Func.Language }},
	{"code.definer", "SECURITY DEFINER", func(e *Event) any { return &e.Func.Definer }},
	{"code.pinned", "it fixes its search_path", func(e *Event) any { return &e.Func.Pinned }},
	{"code.trigger", "it returns event_trigger", func(e *Event) any { return &e.Func.Trigger }},
	{"code.shadows", "it has the name of one of PostgreSQL's own functions and lies in public", func(e *Event) any { return &e.Func.Shadows }},
	{"code.body", "what its code or a DO block does: execute, create role, alter role, superuser, createrole, grant role, alter system, copy program, catalog write, set pgaudit, ...", func(e *Event) any { return &e.Func.Body }},
	{"code.obscure", "its code puts a command together so that nobody reads it", func(e *Event) any { return &e.Func.Obscure }},
	{"habit.ready", "the learning time is over", func(e *Event) any { return &e.Habit.Ready }},
	{"habit.service", "the actor is a program: many sessions, always the same applications", func(e *Event) any { return &e.Habit.Service }},
	{"habit.interactive", "the application is a tool for people", func(e *Event) any { return &e.Habit.Interactive }},
	{"habit.new_actor", "this login role was never seen", func(e *Event) any { return &e.Habit.NewActor }},
	{"habit.new_network", "nobody was ever seen from there", func(e *Event) any { return &e.Habit.NewNetwork }},
	{"habit.new_source", "the role was never seen from this network", func(e *Event) any { return &e.Habit.NewSource }},
	{"habit.new_app", "the role was never seen with this application", func(e *Event) any { return &e.Habit.NewApp }},
	{"habit.new_kind", "the role never did this", func(e *Event) any { return &e.Habit.NewKind }},
	{"habit.new_hour", "the role is never active about this hour", func(e *Event) any { return &e.Habit.NewHour }},
	{"habit.new_from", "the role has not copied this table whole before, or once only", func(e *Event) any { return &e.Habit.NewFrom }},
	{"habit.first_change", "the actor is a program that never before changed a role or an object, or one that must not", func(e *Event) any { return &e.Habit.FirstChange }},
	{"habit.routine", "this application does such things from this network as a matter of course: a deployment, automation", func(e *Event) any { return &e.Habit.Routine }},
	{"habit.own", "the object was made by the same role, or does not outlive the session", func(e *Event) any { return &e.Habit.Own }},
	{"habit.target_login", "a role that is changed, dropped or given rights logs in itself", func(e *Event) any { return &e.Habit.TargetLogin }},
	{"habit.grants_power", "a membership given is that of a superuser or of somebody who administers", func(e *Event) any { return &e.Habit.GrantsPower }},
	{"habit.score", "how unusual it is, from 0; 2.5 is worth a look, 4 is far out", func(e *Event) any { return &e.Habit.Score }},
	{"rate.failures", "failed log-ins for this role from this network within ten minutes", func(e *Event) any { return &e.Rate.Failures }},
	{"rate.users", "roles that failed to log in from this address within ten minutes", func(e *Event) any { return &e.Rate.Users }},
	{"rate.known", "so many failures are usual from there", func(e *Event) any { return &e.Rate.Known }},
	{"rate.guessed", "a log-in after a series of failures from the same place", func(e *Event) any { return &e.Rate.Guessed }},
	{"rate.denied", "statements of this role that were refused within ten minutes", func(e *Event) any { return &e.Rate.Denied }},
	{"rate.storm", "the session has far more records than any before it", func(e *Event) any { return &e.Rate.Storm }},
	{"rate.drops", "lasting objects of others that this session dropped or emptied", func(e *Event) any { return &e.Rate.Drops }},
}

var fieldByName = func() map[string]*Field {
	all := make(map[string]*Field, len(Fields))
	for i := range Fields {
		all[Fields[i].Name] = &Fields[i]
	}
	return all
}()

// celType is the type of a field in CEL.
func (f *Field) celType() *cel.Type {
	switch f.value(&Event{}).(type) {
	case *string:
		return cel.StringType
	case *bool:
		return cel.BoolType
	case *int, *int64:
		return cel.IntType
	case *float64:
		return cel.DoubleType
	case *time.Time:
		return cel.TimestampType
	case *[]string:
		return cel.ListType(cel.StringType)
	}
	return cel.DynType
}

// get gives the field's value of an event.
func (f *Field) get(e *Event) any {
	switch p := f.value(e).(type) {
	case *string:
		return *p
	case *bool:
		return *p
	case *int:
		return *p
	case *int64:
		return *p
	case *float64:
		return *p
	case *time.Time:
		return *p
	case *[]string:
		return *p
	}
	return nil
}

// set gives an event's field a value that was read from a file.
func (f *Field) set(e *Event, value any) error {
	switch p := f.value(e).(type) {
	case *string:
		if v, ok := value.(string); ok {
			*p = v
			return nil
		}
	case *bool:
		if v, ok := value.(bool); ok {
			*p = v
			return nil
		}
	case *int:
		if v, ok := value.(int64); ok {
			*p = int(v)
			return nil
		}
	case *int64:
		if v, ok := value.(int64); ok {
			*p = v
			return nil
		}
	case *float64:
		switch v := value.(type) {
		case float64:
			*p = v
			return nil
		case int64:
			*p = float64(v)
			return nil
		}
	case *time.Time:
		if v, ok := value.(time.Time); ok {
			*p = v.UTC()
			return nil
		}
	case *[]string:
		if v, ok := value.([]any); ok {
			*p = nil
			for _, item := range v {
				*p = append(*p, fmt.Sprint(item))
			}
			return nil
		}
	}
	return fmt.Errorf("%s cannot be %v", f.Name, value)
}
