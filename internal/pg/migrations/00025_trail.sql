-- +goose Up

-- Who changed what in the house: written in the transaction that changes it, and by the application's role never altered or taken away (see grant in migrate.go).
-- No foreign keys: what it tells of may go.
CREATE TABLE account.trail (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_id  bigint,                            -- NULL: somebody at the machine itself, or nobody with an account yet
    actor     text NOT NULL,                     -- their handle as it was then; '' where there is none
    via       text COLLATE "C" NOT NULL,         -- page, api, command; '' is the house by itself
    address   text NOT NULL,                     -- IP address; '' is the machine itself
    action    text COLLATE "C" NOT NULL,         -- account.Action
    person_id bigint,                            -- whom it is about
    room_id   bigint,                            -- which room
    subject   text NOT NULL,                     -- what that was called then
    before    jsonb,
    after     jsonb
);
CREATE INDEX trail_actor ON account.trail (actor_id, id) WHERE actor_id IS NOT NULL;
CREATE INDEX trail_person ON account.trail (person_id, id) WHERE person_id IS NOT NULL;
CREATE INDEX trail_room ON account.trail (room_id, id) WHERE room_id IS NOT NULL;

-- An invitation may lead into several rooms.
ALTER TABLE account.invite ADD COLUMN more_rooms bigint[];  -- beside room_id
