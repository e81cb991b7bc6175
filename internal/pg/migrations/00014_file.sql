-- +goose Up

-- Files. What is in one is kept once, whoever sent it where, and cut into rows that fill a page of a table each (see files.RowSize): so they are written and read as fast
-- as PostgreSQL copies, with no TOAST between. No foreign key: a row comes in the transaction that counts it in chat.upload, and goes before its content does.
CREATE TABLE chat.content (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256   bytea,                              -- NULL: not all of it has come yet, or it is being taken away
    size     bigint NOT NULL,
    type     text NOT NULL DEFAULT '',           -- what its bytes say it is, never what somebody said
    width    integer,                            -- of pictures that can be shown, as they are shown
    height   integer,
    excerpt  text,                               -- the beginning of a text
    made_at  timestamptz NOT NULL DEFAULT now(),
    loose_at timestamptz                         -- since when no message and no upload has it, as far as somebody has looked
);
CREATE UNIQUE INDEX content_sha256 ON chat.content (sha256);

CREATE TABLE chat.content_part (
    content_id bigint NOT NULL,
    at         bigint NOT NULL,                  -- of its first byte in the content
    data       bytea NOT NULL,
    PRIMARY KEY (content_id, at)
);
ALTER TABLE chat.content_part ALTER COLUMN data SET STORAGE PLAIN;

-- A small picture of a large one.
CREATE TABLE chat.preview (
    content_id bigint PRIMARY KEY REFERENCES chat.content (id) ON DELETE CASCADE,
    type       text NOT NULL,
    data       bytea                             -- NULL: none can be made
);
ALTER TABLE chat.preview ALTER COLUMN data SET STORAGE EXTERNAL;

-- What somebody sends, as far as it has come; kept for a while after that, until they have posted it.
CREATE TABLE chat.upload (
    person_id  bigint NOT NULL REFERENCES account.person (id),
    id         uuid NOT NULL,                    -- made by the client, the same in every retry
    name       text NOT NULL,
    size       bigint NOT NULL,
    received   bigint NOT NULL DEFAULT 0,
    hash       bytea,                            -- SHA-256 under way, over what was received
    done       boolean NOT NULL DEFAULT false,
    content_id bigint NOT NULL REFERENCES chat.content (id),
    touched_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (person_id, id)
) WITH (fillfactor = 50);
CREATE INDEX upload_content ON chat.upload (content_id);

-- The files of messages.
CREATE TABLE chat.file (
    room_id    bigint NOT NULL,
    seq        bigint NOT NULL,
    n          smallint NOT NULL,                -- 1, 2, ... in the message
    content_id bigint NOT NULL REFERENCES chat.content (id),
    person_id  bigint NOT NULL,                  -- whose room in the house it takes
    name       text NOT NULL,
    alt        text NOT NULL DEFAULT '',         -- a picture in words
    PRIMARY KEY (room_id, seq, n)
);
CREATE INDEX file_content ON chat.file (content_id);
CREATE INDEX file_person ON chat.file (person_id);

ALTER TABLE chat.message ADD COLUMN files smallint; -- how many it has; NULL: who reads it need not look for any
