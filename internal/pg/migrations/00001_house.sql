-- +goose Up

-- People and how they come in.
CREATE SCHEMA account;

CREATE TABLE account.person (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    handle        text NOT NULL,                 -- what @ finds; stored in lower case, NFKC
    name          text NOT NULL,                 -- what people read
    role          text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'guest')),
    password_hash text NOT NULL,                 -- argon2id, PHC string format
    locale        text NOT NULL DEFAULT '',      -- '' follows the browser
    theme         text NOT NULL DEFAULT '' CHECK (theme IN ('', 'light', 'dark')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    disabled_at   timestamptz
);
CREATE UNIQUE INDEX person_handle ON account.person (handle);

CREATE TABLE account.session (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id  bigint NOT NULL REFERENCES account.person (id) ON DELETE CASCADE,
    token_hash bytea NOT NULL UNIQUE,            -- sha256; the token itself is only in the person's cookie
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    ends_at    timestamptz NOT NULL,
    address    text NOT NULL DEFAULT '',
    agent      text NOT NULL DEFAULT ''
);
CREATE INDEX session_person ON account.session (person_id);

-- A personal access token acts as its person, for programs.
CREATE TABLE account.token (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id  bigint NOT NULL REFERENCES account.person (id) ON DELETE CASCADE,
    name       text NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz
);
CREATE INDEX token_person ON account.token (person_id);

CREATE TABLE account.invite (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_hash bytea NOT NULL UNIQUE,
    role       text NOT NULL CHECK (role IN ('admin', 'member', 'guest')),
    room_id    bigint,                           -- the room that a newcomer joins; null: the public rooms are theirs to choose
    created_by bigint NOT NULL REFERENCES account.person (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    ends_at    timestamptz NOT NULL,
    uses_left  integer NOT NULL CHECK (uses_left >= 0)
);

-- The one-time set-up link: at most one row, gone when the first owner exists.
CREATE TABLE account.setup (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    token_hash bytea NOT NULL
);

-- Rooms. Every change in a room is a row of chat.message (a post) or of chat.change (anything else) and takes the
-- room's next seq in the same transaction, under the lock of the room's row: together they are the room's log, with
-- no gap from 1 to chat.room.seq.
CREATE SCHEMA chat;

CREATE TABLE chat.room (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('public', 'private', 'direct')),
    name       text NOT NULL,                    -- '' for direct rooms: they bear the other person's name
    topic      text NOT NULL DEFAULT '',
    seq        bigint NOT NULL DEFAULT 0,
    created_by bigint NOT NULL REFERENCES account.person (id),
    client_id  uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    pair       bigint[] CHECK ((kind = 'direct') = (pair IS NOT NULL)) -- the two people of a direct room, lower id first
) WITH (fillfactor = 50);                        -- seq changes with every commit: leave room for HOT updates
CREATE UNIQUE INDEX room_client ON chat.room (created_by, client_id);
CREATE UNIQUE INDEX room_public_name ON chat.room (lower(name)) WHERE kind = 'public';
CREATE UNIQUE INDEX room_pair ON chat.room (pair) WHERE kind = 'direct';

CREATE TABLE chat.member (
    room_id   bigint NOT NULL REFERENCES chat.room (id),
    person_id bigint NOT NULL REFERENCES account.person (id),
    role      text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'guest')),
    read_seq  bigint NOT NULL DEFAULT 0,         -- all up to here has been read; unread is counted from it, never kept
    joined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room_id, person_id)
) WITH (fillfactor = 80);
CREATE INDEX member_person ON chat.member (person_id, room_id);

-- No foreign keys here and in chat.change: the statement that inserts has just read the room and the membership
-- under the room's lock, and neither rooms nor people are ever deleted; checking again would cost a third of a post.
CREATE TABLE chat.message (
    room_id    bigint NOT NULL,
    seq        bigint NOT NULL,
    author_id  bigint NOT NULL,
    client_id  uuid NOT NULL,
    at         timestamptz NOT NULL,
    body       text NOT NULL,
    mentions   text[],                           -- the handles in body that named somebody who could read it
    edited_at  timestamptz,
    deleted_at timestamptz,                      -- the words stay until retention takes them; nobody is shown them
    PRIMARY KEY (room_id, seq)
);
CREATE UNIQUE INDEX message_client ON chat.message (room_id, author_id, client_id);

CREATE TABLE chat.change (
    room_id     bigint NOT NULL,
    seq         bigint NOT NULL,
    at          timestamptz NOT NULL,
    actor_id    bigint NOT NULL,
    client_id   uuid,
    kind        text NOT NULL CHECK (kind IN ('edit', 'delete', 'join', 'leave', 'role', 'room')),
    message_seq bigint,                          -- edit, delete: of which post
    person_id   bigint,                          -- join, leave, role: who
    detail      jsonb,                           -- edit: {"before"}; role: {"role"}; room: {"name","topic"}
    PRIMARY KEY (room_id, seq)
);
CREATE UNIQUE INDEX change_client ON chat.change (room_id, actor_id, client_id) WHERE client_id IS NOT NULL;

CREATE TABLE chat.mention (
    room_id   bigint NOT NULL,
    person_id bigint NOT NULL,
    seq       bigint NOT NULL,
    PRIMARY KEY (room_id, person_id, seq)
);

-- Who is restored from a backup says so by a new epoch (see chat.Epoch): pages that know of later things load anew.
CREATE TABLE chat.epoch (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch  uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO chat.epoch DEFAULT VALUES;
