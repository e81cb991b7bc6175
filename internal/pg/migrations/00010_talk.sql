-- +goose NO TRANSACTION
-- +goose Up

-- What a message said before it was edited is found along this index; only edits touch it. Built beside what goes on, as message_thread is.
DROP INDEX CONCURRENTLY IF EXISTS chat.change_edited;
CREATE INDEX CONCURRENTLY change_edited ON chat.change (room_id, message_seq, seq) WHERE kind = 'edit';
