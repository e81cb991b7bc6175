-- +goose Up

-- The index of what was said (package search): all of it can be made anew from the rooms' logs. Nothing here is written when somebody posts: it follows, a few hundred
-- messages at a time, and what it does not have yet is looked through where it stands.

-- How far it has each room's log.
CREATE TABLE chat.search_room (
    room_id bigint PRIMARY KEY,
    posts   bigint NOT NULL,                     -- messages up to here are in it ...
    changes bigint NOT NULL                      -- ... with their words as of here, at least
);

CREATE TABLE chat.search_part (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    messages integer NOT NULL,
    bytes    bigint NOT NULL,
    last_at  bigint NOT NULL                     -- of its newest message; microseconds since 1970
);

-- Terms in order, with the numbers of the messages that have them.
CREATE TABLE chat.search_block (
    part_id bigint NOT NULL,
    first   bytea NOT NULL,
    data    bytea NOT NULL,
    PRIMARY KEY (part_id, first)
);
ALTER TABLE chat.search_block ALTER COLUMN data SET STORAGE EXTERNAL;

-- Which message each number is.
CREATE TABLE chat.search_page (
    part_id bigint NOT NULL,
    number  integer NOT NULL,
    last_at bigint NOT NULL,
    data    bytea NOT NULL,
    PRIMARY KEY (part_id, number)
);
ALTER TABLE chat.search_page ALTER COLUMN data SET STORAGE EXTERNAL;
