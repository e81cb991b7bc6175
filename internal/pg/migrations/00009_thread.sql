-- +goose NO TRANSACTION
-- +goose Up

-- A reply is a post that names the message it answers, and always the first one of its thread. It stands in the room's log as any post does, and in the room's own
-- page only when it was said aloud. How many there are is counted along this index, which posts that are no replies do not touch.
ALTER TABLE chat.message ADD COLUMN IF NOT EXISTS thread bigint, ADD COLUMN IF NOT EXISTS aloud boolean;

-- Who follows a thread: who began it, who replied, who was called, and who asked for it. Theirs alone, so no change of the room.
CREATE TABLE IF NOT EXISTS chat.follow (
    room_id   bigint NOT NULL,
    thread    bigint NOT NULL,
    person_id bigint NOT NULL REFERENCES account.person (id),
    read_seq  bigint NOT NULL,                   -- all replies up to here have been read; what is unread is counted from it, never kept
    following boolean NOT NULL DEFAULT true,     -- false: they said that they had enough of it
    PRIMARY KEY (room_id, thread, person_id)
);
CREATE INDEX IF NOT EXISTS follow_person ON chat.follow (person_id, room_id);

-- Over all messages, while other nodes let people post: so it is built beside them. What a kill left of it is no index, and goes first.
DROP INDEX CONCURRENTLY IF EXISTS chat.message_thread;
CREATE INDEX CONCURRENTLY message_thread ON chat.message (room_id, thread, seq) WHERE thread IS NOT NULL AND deleted_at IS NULL;
