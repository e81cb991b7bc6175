-- +goose Up

-- How long a room keeps what is said in it. Its log begins at first_seq: what was before that is gone, but for the empty beginnings of threads that still have replies.
ALTER TABLE chat.room
    ADD COLUMN keep_days integer,                -- 0: for ever; NULL: as the house has it
    ADD COLUMN keep_from timestamptz,            -- nothing goes before that
    ADD COLUMN first_seq bigint NOT NULL DEFAULT 1;
ALTER TABLE chat.room ADD CONSTRAINT room_keep CHECK (keep_days >= 0) NOT VALID;
ALTER TABLE chat.room VALIDATE CONSTRAINT room_keep;
ALTER TABLE account.rule
    ADD COLUMN keep_days integer NOT NULL DEFAULT 0 CHECK (keep_days >= 0), -- of the rooms that have no rule of their own
    ADD COLUMN keep_from timestamptz;

-- From where the index has no words of the room any more.
ALTER TABLE chat.search_room ADD COLUMN trimmed bigint NOT NULL DEFAULT 0;

CREATE INDEX saved_message ON chat.saved (room_id, message_seq);

-- 'retain': how long the room keeps its messages from now on; 'trim': what was before a seq is gone.
ALTER TABLE chat.change DROP CONSTRAINT change_kind_check;
ALTER TABLE chat.change ADD CONSTRAINT change_kind_check CHECK (kind IN ('edit', 'delete', 'join', 'leave', 'role', 'room', 'answer', 'restore', 'restored', 'way', 'react', 'pin', 'card', 'retain', 'trim', 'archive')) NOT VALID;
