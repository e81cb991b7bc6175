-- +goose Up

-- Who sends to push services: made once. Subscriptions hold for this key only, so it is kept, backed up and restored with them.
CREATE TABLE chat.push_key (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    private bytea NOT NULL
);

-- Browsers that are told with no page open. Who signs out there, or is signed out, takes it away.
CREATE TABLE chat.device (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id  bigint NOT NULL REFERENCES account.person (id) ON DELETE CASCADE,
    session_id bigint NOT NULL REFERENCES account.session (id) ON DELETE CASCADE,
    endpoint   text NOT NULL UNIQUE,             -- at most 2000 bytes
    key        bytea NOT NULL,
    auth       bytea NOT NULL,
    locale     text NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now(),
    hour_at    timestamptz NOT NULL DEFAULT now(), -- when the hour of the limit began ...
    hour_sent  integer NOT NULL DEFAULT 0,         -- ... and what was sent in it
    refused    integer NOT NULL DEFAULT 0          -- in a row
);
CREATE INDEX device_person ON chat.device (person_id);
CREATE INDEX device_session ON chat.device (session_id);

-- How far each room's log has been looked at for those who are to be told. Nothing here is written when somebody posts.
CREATE TABLE chat.told_room (
    room_id bigint PRIMARY KEY,
    seq     bigint NOT NULL
);
INSERT INTO chat.told_room SELECT id, seq FROM chat.room;

-- What a device is told of a room (thread 0), or of a thread: always of the newest message that is to be told, and of each at most once.
CREATE TABLE chat.push (
    device_id bigint NOT NULL REFERENCES chat.device (id) ON DELETE CASCADE,
    room_id   bigint NOT NULL,
    thread    bigint NOT NULL,
    seq       bigint NOT NULL,                   -- the newest
    due_at    timestamptz,                       -- when it is tried; NULL: there is nothing to tell
    tries     integer NOT NULL DEFAULT 0,
    told_seq  bigint NOT NULL DEFAULT 0,         -- the last that was told
    told_at   timestamptz,
    PRIMARY KEY (device_id, room_id, thread)
) WITH (fillfactor = 70);
CREATE INDEX push_due ON chat.push (due_at) WHERE due_at IS NOT NULL;
