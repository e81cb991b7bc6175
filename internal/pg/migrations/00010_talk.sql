-- +goose Up

-- What a message said before it was edited is found along this index; only edits touch it.
CREATE INDEX change_edited ON chat.change (room_id, message_seq, seq) WHERE kind = 'edit';
