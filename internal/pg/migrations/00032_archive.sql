-- +goose Up

-- Nobody speaks any more in a room that is archived; who could read it still can.
ALTER TABLE chat.room ADD COLUMN archived_at timestamptz;
