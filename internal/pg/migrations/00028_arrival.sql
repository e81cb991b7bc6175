-- +goose Up

-- Rooms that come from elsewhere, from another house or another chat. One that is not whole yet is private and has no members, so it is nobody's.
CREATE TABLE chat.arrival (
    room_id bigint PRIMARY KEY REFERENCES chat.room (id),
    source  text NOT NULL,                       -- which house
    key     text NOT NULL,                       -- which of its rooms: none comes twice
    digest  bytea NOT NULL,                      -- of all that it is made from: who goes on after a kill goes on with the same
    made_at timestamptz NOT NULL DEFAULT now(),
    opened  bigint,                              -- when it became people's, in this order; NULL: it is not whole yet
    UNIQUE (source, key)
);
CREATE INDEX arrival_opened ON chat.arrival (opened) WHERE opened IS NOT NULL;
CREATE SEQUENCE chat.arrival_order;

-- Who came with them.
CREATE TABLE account.arrival (
    source    text NOT NULL,
    key       text NOT NULL,                     -- who they are there
    person_id bigint NOT NULL REFERENCES account.person (id),
    PRIMARY KEY (source, key)
);
