-- +goose Up

-- What pages say of themselves: asked for once for all rooms, and forgotten after a while. What was no page is known as well, so that nobody can have us ask for it again and again.
CREATE TABLE chat.link (
    address     text PRIMARY KEY,                -- without what stands behind #; at most 2000 bytes
    ends_at     timestamptz NOT NULL,            -- then it is asked for again
    trouble     text NOT NULL,                   -- why there is nothing to show; ''
    title       text NOT NULL,
    description text NOT NULL,
    site        text NOT NULL,
    picture_id  bigint
);
CREATE INDEX link_end ON chat.link (ends_at);
CREATE INDEX link_picture ON chat.link (picture_id) WHERE picture_id IS NOT NULL;

-- Small pictures, made by us, each once.
CREATE TABLE chat.picture (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256  bytea NOT NULL UNIQUE,
    type    text NOT NULL,
    width   integer NOT NULL,
    height  integer NOT NULL,
    data    bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()   -- or wanted again
);
ALTER TABLE chat.picture ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE chat.card ADD COLUMN picture_id bigint;
CREATE INDEX card_picture ON chat.card (picture_id) WHERE picture_id IS NOT NULL;

-- How far each room's log has been looked at for links, and the messages whose links are to be looked up. Nothing here is written when somebody posts.
CREATE TABLE chat.card_room (
    room_id bigint PRIMARY KEY,
    seq     bigint NOT NULL
);
INSERT INTO chat.card_room SELECT id, seq FROM chat.room;
CREATE TABLE chat.card_wish (
    room_id     bigint NOT NULL,
    message_seq bigint NOT NULL,
    due_at      timestamptz NOT NULL DEFAULT now(), -- when it is looked at, or, while somebody does, when that has failed
    tries       integer NOT NULL DEFAULT 0,
    PRIMARY KEY (room_id, message_seq)
);
CREATE INDEX card_wish_due ON chat.card_wish (due_at);

ALTER TABLE account.person ADD COLUMN cards boolean NOT NULL DEFAULT true; -- is shown what links lead to
