-- +goose Up

-- What a room wants to have at hand. Its log has every pin that came or went ('pin'); this is what it leaves, in the same transaction.
CREATE TABLE chat.pin (
    room_id     bigint NOT NULL,
    message_seq bigint NOT NULL,
    seq         bigint NOT NULL,                 -- of the change that put it there
    person_id   bigint NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (room_id, message_seq)
);
-- Rows of before have passed a stricter one: they are not looked through under this lock. 'card' is of what a link leads to.
ALTER TABLE chat.change DROP CONSTRAINT change_kind_check;
ALTER TABLE chat.change ADD CONSTRAINT change_kind_check CHECK (kind IN ('edit', 'delete', 'join', 'leave', 'role', 'room', 'answer', 'restore', 'restored', 'way', 'react', 'pin', 'card')) NOT VALID;

-- What the links of a message lead to, as the pages say of themselves: looked up after it was said. The log has each time that it changed ('card').
CREATE TABLE chat.card (
    room_id     bigint NOT NULL,
    message_seq bigint NOT NULL,
    address     text NOT NULL,
    nth         smallint NOT NULL,               -- in the message
    title       text NOT NULL,
    description text NOT NULL,
    site        text NOT NULL,
    gone        boolean NOT NULL DEFAULT false,  -- taken away by somebody: it does not come again
    PRIMARY KEY (room_id, message_seq, address)
);
ALTER TABLE chat.room ADD COLUMN cards boolean NOT NULL DEFAULT true; -- links are looked up

-- What somebody has put aside for themselves. Theirs alone, so no change of the room.
CREATE TABLE chat.saved (
    person_id   bigint NOT NULL REFERENCES account.person (id),
    room_id     bigint NOT NULL,
    message_seq bigint NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (person_id, room_id, message_seq)
);

-- What somebody has begun to write, for their other devices: what was written last stands.
CREATE TABLE chat.draft (
    person_id bigint NOT NULL REFERENCES account.person (id),
    room_id   bigint NOT NULL,
    thread    bigint NOT NULL,                   -- the first message of it; 0: the room's own box
    client_id uuid NOT NULL,                     -- of the message that it will be: when that is there, this is none any more
    version   bigint NOT NULL,                   -- when it was written, by the device's clock, in milliseconds since 1970; only a higher one replaces it
    body      text NOT NULL,                     -- '': it was sent or thrown away
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (person_id, room_id, thread)
) WITH (fillfactor = 80);
