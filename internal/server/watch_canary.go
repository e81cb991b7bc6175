package server

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/fault"
)

// The watch proves that auditing lives: every few minutes its own role does something harmless that has to be audited, with a word in it that nobody else knows, and the record of it has to come
// through the log. It does not when pgAudit is gone or set to be silent, when the log goes elsewhere, when its disk is full. Who switches auditing off for other sessions only is found by what
// these change: see compare.

const (
	canaryPace = 5 * time.Minute
	// canaryWait is how long nothing at all may come through the log. Where something comes that was written later, that is proof, and nobody waits.
	canaryWait = 2 * time.Minute
	// canaryTries are as many that have to be lost one after the other: one can be, with a PostgreSQL that is killed.
	canaryTries = 2
)

// troubleBlind: nothing that is audited comes through the log.
const troubleBlind = "blind"

// canary is how it stands with it. A zero value has not sung yet.
type canary struct {
	token  string    // what is waited for; "": nothing
	sung   time.Time // when it was said, by PostgreSQL's clock; zero: not yet, as far as is known
	began  time.Time // when we knew that
	next   time.Time // not before that
	lost   int       // one after the other
	heard  time.Time // when it was heard last
	reason string    // why it may be that it is not heard
}

// due gives the word to be said now, and "" where none is due.
func (c *canary) due() string {
	if c.token == "" && !time.Now().Before(c.next) {
		c.token, c.sung = rand.Text(), time.Time{}
		return c.token
	}
	return ""
}

// statement is what is done, and undone at once: pgAudit records it in the class ROLE all the same.
func (c *canary) statement() string { return canaryStatement(c.token) }

func canaryStatement(token string) string {
	return "ALTER ROLE CURRENT_USER SET application_name = 'howdah canary " + token + "'"
}

// song is what became of a word.
type song struct {
	token string
	at    time.Time // when it had been said, by PostgreSQL's clock; zero: it could not be
	state string    // the settings that it depends on
}

// sing says the word over a connection of the watcher's. A standby writes nothing and is not asked to.
func sing(ctx context.Context, conn *pgx.Conn, token string) (song, error) {
	s := song{token: token}
	var standby bool
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.concat_ws(', ', 'pgaudit.log = ' || coalesce(pg_catalog.current_setting('pgaudit.log', true), '(pgAudit is not loaded)'),
		'log_destination = ' || pg_catalog.current_setting('log_destination'), 'logging_collector = ' || pg_catalog.current_setting('logging_collector'),
		'log_min_messages = ' || pg_catalog.current_setting('log_min_messages'), 'log_directory = ' || pg_catalog.current_setting('log_directory'))`).Scan(&standby, &s.state); err != nil || standby {
		return s, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return s, err
	}
	_, err = tx.Exec(ctx, canaryStatement(token))
	if err := errors.Join(err, tx.Rollback(ctx)); err != nil {
		return s, err
	}
	return s, conn.QueryRow(ctx, `SELECT pg_catalog.clock_timestamp()`).Scan(&s.at)
}

// sung takes note of what became of it.
func (w *watcher) sung(s song) {
	c := &w.canary
	if s.token == "" || s.token != c.token { // it was heard before we knew that it was said
		return
	}
	if s.at.IsZero() {
		c.token = "" // another time
		return
	}
	c.sung, c.began, c.reason = s.at, time.Now(), s.state
}

// listen looks for the word in what was read, and takes its record out: it is nothing that somebody did.
func (w *watcher) listen(b *audit.Batch) {
	c := &w.canary
	if c.token == "" {
		return
	}
	for i := range b.Lines {
		l := &b.Lines[i]
		switch {
		case l.User == w.role && w.says(l):
			b.Lines = slices.Delete(slices.Clone(b.Lines), i, i+1)
			w.hears()
			return
		case !c.sung.IsZero() && l.Time.After(c.sung): // a line is written before what it is about is done
			w.misses()
			return
		}
	}
}

// says tells whether a line is the record that is waited for. Where there is no pgAudit, log_statement writes the statement itself.
func (w *watcher) says(l *audit.Line) bool {
	if w.audits.Load() {
		return l.Audit != nil && l.Audit.Statement == w.canary.statement()
	}
	return l.Audit == nil && l.Severity == "LOG" && strings.Contains(l.Message, w.canary.statement())
}

// despair misses what nothing that comes could prove to be lost, once the log is read to its end.
func (w *watcher) despair() {
	if c := &w.canary; c.token != "" && !c.sung.IsZero() && time.Since(c.began) > canaryWait && w.watched.behind.Load() == 0 {
		w.misses()
	}
}

func (w *watcher) hears() {
	c := &w.canary
	c.token, c.lost, c.heard, c.next = "", 0, time.Now(), time.Now().Add(canaryPace)
	if since := w.heal(troubleBlind); !since.IsZero() {
		w.log.Info("the watch sees again", "blind_since", since)
	}
}

func (w *watcher) misses() {
	c := &w.canary
	c.token = ""
	if c.lost++; c.lost < canaryTries {
		return // again with the next look
	}
	c.next = time.Now().Add(canaryPace)
	since := c.heard
	if since.IsZero() {
		since = c.began
	}
	const clock = "2006-01-02 15:04:05"
	if !w.ail(troubleBlind, fault.New(fault.Unavailable, "watch.blind", fault.Args{"since": since.UTC().Format(clock), "state": c.reason})) {
		return // it has been told
	}
	w.log.Error("the watch is blind: what is audited does not come through the log", "since", since.UTC(), "state", c.reason)
	for _, v := range w.judge.Event(judge.Event{Kind: judge.Canary, Time: time.Now().UTC(), Detail: "the watch is blind since " + since.UTC().Format(clock) + " UTC; " + c.reason}) {
		w.found(v)
	}
	if err := w.save(); err != nil {
		w.log.Error("what the watch has learned could not be written", "error", err)
	}
}
