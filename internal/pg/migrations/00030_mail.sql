-- +goose Up

-- A mail address that somebody has shown to be theirs. Several people may share one.
CREATE TABLE account.mailbox (
    person_id bigint PRIMARY KEY REFERENCES account.person (id) ON DELETE CASCADE,
    address   text NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(),
    refused   integer NOT NULL DEFAULT 0         -- letters to it that were refused for good, in a row
);
CREATE INDEX mailbox_address ON account.mailbox (lower(address));

-- By mail somebody is told of what they have missed: after so many minutes, or (1440) once a day, so many minutes after midnight. 0: they are not.
ALTER TABLE chat.told ADD COLUMN mail smallint NOT NULL DEFAULT 0, ADD COLUMN mail_at smallint NOT NULL DEFAULT 540;

-- Where there may be something to tell somebody by mail: from first to seq, in a room (thread 0) or a thread. What of it is unread is looked up when the mail is made.
CREATE TABLE chat.missed (
    person_id bigint NOT NULL REFERENCES account.person (id) ON DELETE CASCADE,
    room_id   bigint NOT NULL,
    thread    bigint NOT NULL,
    first     bigint NOT NULL,
    seq       bigint NOT NULL,
    PRIMARY KEY (person_id, room_id, thread)
) WITH (fillfactor = 70);

-- When somebody is sent the next one.
CREATE TABLE chat.digest (
    person_id bigint PRIMARY KEY REFERENCES account.person (id) ON DELETE CASCADE,
    n         bigint NOT NULL DEFAULT 0,         -- how many were sent
    due_at    timestamptz,                       -- NULL: there is nothing to tell
    planned   boolean NOT NULL DEFAULT false,    -- due_at is when it is sent; otherwise, when that is settled
    tries     integer NOT NULL DEFAULT 0,
    stop      uuid NOT NULL DEFAULT gen_random_uuid() -- stands in each, and ends them
);
CREATE INDEX digest_due ON chat.digest (due_at) WHERE due_at IS NOT NULL;

-- Letters that somebody has asked for, until a server has taken them. No secret stands in here.
CREATE TABLE chat.letter (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind      text NOT NULL,
    person_id bigint REFERENCES account.person (id) ON DELETE CASCADE,
    data      jsonb NOT NULL,
    made_at   timestamptz NOT NULL DEFAULT now(),
    due_at    timestamptz NOT NULL DEFAULT now(),
    tries     integer NOT NULL DEFAULT 0
);
CREATE INDEX letter_due ON chat.letter (due_at);
