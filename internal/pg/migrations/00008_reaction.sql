-- +goose Up

-- Reactions: who put which emoji on which message. The room's log has every one that came or went ('react'); this is what it leaves, in the same transaction.
CREATE TABLE chat.reaction (
    room_id     bigint NOT NULL,
    message_seq bigint NOT NULL,
    emoji       text COLLATE "C" NOT NULL,
    person_id   bigint NOT NULL,
    seq         bigint NOT NULL,                 -- of the change that put it there: they are shown in this order
    PRIMARY KEY (room_id, message_seq, emoji, person_id)
);
ALTER TABLE chat.message ADD COLUMN marked boolean; -- something was put on it once; NULL: who reads it need not look for anything
ALTER TABLE chat.change DROP CONSTRAINT change_kind_check;
ALTER TABLE chat.change ADD CONSTRAINT change_kind_check CHECK (kind IN ('edit', 'delete', 'join', 'leave', 'role', 'room', 'answer', 'restore', 'restored', 'way', 'react')) NOT VALID; -- rows of before have passed a stricter one
