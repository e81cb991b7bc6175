-- +goose Up

-- What somebody wants to be told of in a room, and until when of nothing. NULL: as they have it in general; not muted.
ALTER TABLE chat.member ADD COLUMN bell text, ADD COLUMN mute_until timestamptz;
ALTER TABLE chat.member ADD CONSTRAINT member_bell CHECK (bell IN ('all', 'mentions', 'nothing')) NOT VALID;
ALTER TABLE chat.member VALIDATE CONSTRAINT member_bell;

-- ... and in a thread: silent means not even of what calls them.
ALTER TABLE chat.follow ADD COLUMN silent boolean NOT NULL DEFAULT false, ADD COLUMN mute_until timestamptz;

-- ... and in general. Who has no row has set nothing.
CREATE TABLE chat.told (
    person_id    bigint PRIMARY KEY REFERENCES account.person (id),
    bell         text NOT NULL DEFAULT 'mentions' CHECK (bell IN ('all', 'mentions', 'nothing')), -- of rooms that have none of their own
    zone         text NOT NULL DEFAULT '',        -- IANA name; '' is UTC
    quiet_from   smallint NOT NULL DEFAULT 1320,  -- minutes after midnight
    quiet_to     smallint NOT NULL DEFAULT 480,   -- on the next day, where it is not after quiet_from
    quiet_days   smallint NOT NULL DEFAULT 0,     -- on which it begins, as bits, Sunday the lowest
    paused_until timestamptz,
    hide         boolean NOT NULL DEFAULT false   -- what leaves the house says who wrote where, and not what
);
