-- +goose Up

-- A message by which the house tells of an incident says so to the pages, with what people answered. What was answered is a change of the room.
ALTER TABLE chat.message ADD COLUMN alert jsonb; -- {"incident","part","severity",...,"state","answers"}: see chat.Alert; NULL for what people write
CREATE INDEX message_alert ON chat.message (room_id, (alert->>'incident')) WHERE alert IS NOT NULL;
ALTER TABLE chat.change DROP CONSTRAINT change_kind_check;
ALTER TABLE chat.change ADD CONSTRAINT change_kind_check CHECK (kind IN ('edit', 'delete', 'join', 'leave', 'role', 'room', 'answer'));
