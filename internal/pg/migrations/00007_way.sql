-- +goose Up

-- A message by which the house tells of a way back says so to the pages. What somebody wished of it is a change of the room.
ALTER TABLE chat.message ADD COLUMN way jsonb; -- {"id","incident","state",...}: see chat.Way; NULL for all else
CREATE INDEX message_way ON chat.message (room_id, seq) WHERE way IS NOT NULL;
ALTER TABLE chat.change DROP CONSTRAINT change_kind_check;
ALTER TABLE chat.change ADD CONSTRAINT change_kind_check CHECK (kind IN ('edit', 'delete', 'join', 'leave', 'role', 'room', 'answer', 'restore', 'restored', 'way'));
