-- +goose Up

-- The house itself is a person too: what it says in #ops has an author. Nobody can sign in as it.
ALTER TABLE account.person ADD COLUMN house boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX person_house ON account.person (house) WHERE house;

-- The room in which the house speaks, and only who runs it hears: its members are always the owners and admins of the house.
ALTER TABLE chat.room DROP CONSTRAINT room_kind_check;
ALTER TABLE chat.room ADD CONSTRAINT room_kind_check CHECK (kind IN ('public', 'private', 'direct', 'ops'));
CREATE UNIQUE INDEX room_ops ON chat.room (kind) WHERE kind = 'ops';
