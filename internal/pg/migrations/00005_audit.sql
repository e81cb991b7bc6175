-- +goose Up

-- The audit trail, for looking things up. Its truth is in chained files outside the database (package audit, Trail): this is an index over them, which can be made
-- anew from them, and `howdah audit verify` compares the two.
CREATE SCHEMA audit;

-- A PostgreSQL whose log is read.
CREATE TABLE audit.source (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    seq        bigint NOT NULL DEFAULT 0,        -- the last line of the trail's files that was taken into these tables, changed in one transaction with them
    hash       bytea NOT NULL DEFAULT '',        -- of that line: the files' anchor in the database
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- Lines of the log, with secrets masked, and what was noticed, told and answered (event). Texts are UTF-8; bytes that were not are written as \xE9.
-- Names compare by their bytes, so that an index serves what begins with something.
CREATE TABLE audit.entry (
    source_id     integer NOT NULL REFERENCES audit.source (id) ON DELETE CASCADE,
    seq           bigint NOT NULL,
    at            timestamptz NOT NULL,
    kind          text COLLATE "C" NOT NULL,     -- Entry.Class: pgAudit's class, LOGIN, ERROR, ...
    outcome       text COLLATE "C" NOT NULL,     -- Entry.Outcome
    session_id    text COLLATE "C" NOT NULL,
    line_num      bigint NOT NULL,               -- 0 for an event
    session_start timestamptz,
    user_name     text COLLATE "C" NOT NULL,
    db            text COLLATE "C" NOT NULL,
    app           text COLLATE "C" NOT NULL,
    host          text COLLATE "C" NOT NULL,
    port          bigint NOT NULL,
    pid           bigint NOT NULL,
    ps            text COLLATE "C" NOT NULL,
    vxid          text COLLATE "C" NOT NULL,
    txid          bigint NOT NULL,
    severity      text COLLATE "C" NOT NULL,
    state         text COLLATE "C" NOT NULL,
    message       text NOT NULL,                 -- '' for an audit record
    detail        text NOT NULL,
    hint          text NOT NULL,
    statement     text NOT NULL,                 -- the audit record's, or that of the line
    context       text NOT NULL,
    backend_type  text COLLATE "C" NOT NULL,
    query_id      bigint NOT NULL,
    forged        boolean NOT NULL,
    type          text COLLATE "C" NOT NULL,     -- SESSION or OBJECT; '' when the line is no audit record, as all that follows
    statement_id  bigint NOT NULL,
    substatement_id bigint NOT NULL,
    class         text COLLATE "C" NOT NULL,
    command       text COLLATE "C" NOT NULL,
    object_type   text COLLATE "C" NOT NULL,
    object_name   text COLLATE "C" NOT NULL,
    parameter     text NOT NULL,
    rows          bigint NOT NULL,               -- -1: not logged
    event         jsonb,
    PRIMARY KEY (source_id, seq)
);
-- Pages are read newest first, of all or of one kind, role, object or session.
CREATE INDEX entry_at ON audit.entry (source_id, at, seq);
CREATE INDEX entry_kind ON audit.entry (source_id, kind, at, seq);
CREATE INDEX entry_role ON audit.entry (source_id, user_name, at, seq);
CREATE INDEX entry_object ON audit.entry (source_id, left(object_name, 200), at, seq) WHERE object_name <> ''; -- signatures of functions have no bounds
CREATE INDEX entry_session ON audit.entry (source_id, session_id, seq);

-- How many entries of which kind a role brought in an hour.
CREATE TABLE audit.hour (
    source_id integer NOT NULL REFERENCES audit.source (id) ON DELETE CASCADE,
    at        timestamptz NOT NULL,              -- its beginning
    kind      text COLLATE "C" NOT NULL,
    user_name text COLLATE "C" NOT NULL,
    entries   bigint NOT NULL,
    PRIMARY KEY (source_id, at, kind, user_name)
);

-- Incidents as they stand, and what was answered to them last.
CREATE TABLE audit.incident (
    source_id   integer NOT NULL REFERENCES audit.source (id) ON DELETE CASCADE,
    id          text COLLATE "C" NOT NULL,
    seq         bigint NOT NULL,                 -- of the newest entry about it
    severity    text COLLATE "C" NOT NULL,
    user_name   text COLLATE "C" NOT NULL,
    host        text COLLATE "C" NOT NULL,
    app         text COLLATE "C" NOT NULL,
    db          text COLLATE "C" NOT NULL,
    began       timestamptz NOT NULL,
    last        timestamptz NOT NULL,
    told        jsonb NOT NULL,                  -- audit.Incident
    answer      jsonb,                           -- audit.Answer; NULL: none
    answered_at timestamptz,
    open        boolean NOT NULL,
    PRIMARY KEY (source_id, id)
);
CREATE INDEX incident_began ON audit.incident (source_id, began, id);
CREATE INDEX incident_open ON audit.incident (source_id, began, id) WHERE open;
