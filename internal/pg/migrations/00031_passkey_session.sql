-- +goose Up

-- The passkey that a session was opened with, or that was added in it: it proved who uses it, as a second factor does. NULL: none, or it is gone.
ALTER TABLE account.session ADD COLUMN passkey_id bigint REFERENCES account.passkey (id) ON DELETE SET NULL;
CREATE INDEX session_passkey ON account.session (passkey_id) WHERE passkey_id IS NOT NULL;
