-- +goose Up

-- A bot is an account that a program speaks through: nobody signs in to it, somebody answers for it, and it is where it was put, as a guest is.
ALTER TABLE account.person ADD COLUMN bot_of bigint REFERENCES account.person (id);
CREATE INDEX person_bot ON account.person (bot_of) WHERE bot_of IS NOT NULL;

-- What a token lets its holder do, where, and until when. Those that were there before do all that their person may.
ALTER TABLE account.token
    ADD COLUMN scope   text NOT NULL DEFAULT 'all' CHECK (scope IN ('read', 'write', 'all')),
    ADD COLUMN rooms   bigint[],                 -- NULL: wherever the person is
    ADD COLUMN ends_at timestamptz;              -- NULL: never

-- A way into a room for programs that speak in their own way: Slack's, GitHub's, Alertmanager's. What comes this way is said by the bot.
CREATE TABLE chat.incoming (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id    bigint NOT NULL REFERENCES chat.room (id),
    bot_id     bigint NOT NULL REFERENCES account.person (id),
    name       text NOT NULL,
    token_hash bytea NOT NULL UNIQUE,            -- sha256 of the secret in the address
    secret     text NOT NULL DEFAULT '',         -- signs what comes (X-Hub-Signature-256); '' asks for no signature
    calls      boolean NOT NULL DEFAULT false,   -- may call everybody in the room
    created_by bigint NOT NULL REFERENCES account.person (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at    timestamptz,
    used       bigint NOT NULL DEFAULT 0,
    trouble    text NOT NULL DEFAULT ''          -- the fault with which the last one was refused; '' when it was taken
);
CREATE INDEX incoming_room ON chat.incoming (room_id);

-- A group of Alertmanager's, and the message that tells how it stands.
CREATE TABLE chat.alerting (
    incoming_id bigint NOT NULL REFERENCES chat.incoming (id) ON DELETE CASCADE,
    key         bytea NOT NULL,                  -- sha256 of groupKey
    n           integer NOT NULL,                -- how often it has begun to fire
    edits       integer NOT NULL DEFAULT 0,
    seq         bigint NOT NULL DEFAULT 0,       -- of its message; 0: not said yet
    body        bytea NOT NULL DEFAULT '',       -- sha256 of what the message says
    open        boolean NOT NULL DEFAULT true,
    firing      text[] NOT NULL DEFAULT '{}',    -- fingerprints
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (incoming_id, key)
);
CREATE INDEX alerting_at ON chat.alerting (at);
