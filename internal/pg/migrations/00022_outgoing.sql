-- +goose Up

-- A way out of a room: what is said there is sent to an address. The room's log is the queue, and the cursor says how far it was sent; nothing here is written when
-- somebody posts.
CREATE TABLE chat.outgoing (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id       bigint NOT NULL REFERENCES chat.room (id),
    bot_id        bigint NOT NULL REFERENCES account.person (id), -- hears for it, and says what is answered
    name          text NOT NULL,
    url           text NOT NULL,
    secret        text NOT NULL,                 -- signs what is sent
    hears         text NOT NULL CHECK (hears IN ('all', 'mention', 'word')),
    word          text NOT NULL DEFAULT '',      -- with which a message has to begin
    created_by    bigint NOT NULL REFERENCES account.person (id),
    created_at    timestamptz NOT NULL DEFAULT now(),
    cursor        bigint NOT NULL,               -- all messages up to here have been sent
    lease         timestamptz,                   -- until then somebody sends
    tries         integer NOT NULL DEFAULT 0,    -- of the message that comes next
    next_at       timestamptz NOT NULL DEFAULT now(),
    failing_since timestamptz,
    why           text NOT NULL DEFAULT '',      -- it failed last, in words for people
    off_at        timestamptz                    -- it was switched off
);
CREATE INDEX outgoing_room ON chat.outgoing (room_id);

-- The last things that were sent, for who wants to know what became of them.
CREATE TABLE chat.delivery (
    outgoing_id bigint NOT NULL REFERENCES chat.outgoing (id) ON DELETE CASCADE,
    seq         bigint NOT NULL,                 -- of the message
    at          timestamptz NOT NULL DEFAULT now(),
    tries       integer NOT NULL,
    status      integer NOT NULL,                -- of HTTP; 0: nobody answered
    why         text NOT NULL,                   -- '' when it arrived
    took        integer NOT NULL,                -- milliseconds
    PRIMARY KEY (outgoing_id, seq)
);
