-- +goose Up

-- How much was said when, in all rooms together, for the page Time. Messages are stored in order of time, so an index of some kilobytes does, which costs a post next to nothing.
CREATE INDEX message_at ON chat.message USING brin (at) WITH (autosummarize = on);

-- What was deleted can come back, one by one ('restore'), and a room says so in one quiet line ('restored').
ALTER TABLE chat.change DROP CONSTRAINT change_kind_check;
ALTER TABLE chat.change ADD CONSTRAINT change_kind_check CHECK (kind IN ('edit', 'delete', 'join', 'leave', 'role', 'room', 'answer', 'restore', 'restored'));
CREATE INDEX change_deleter ON chat.change (actor_id, at) WHERE kind = 'delete';
CREATE INDEX change_deleted ON chat.change (room_id, message_seq, seq) WHERE kind = 'delete';
