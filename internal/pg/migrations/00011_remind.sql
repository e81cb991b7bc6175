-- +goose Up

-- What somebody wants to be reminded of. The house says it to them, in their direct room with it, in the transaction that ends the reminder: once, also when
-- the house was down at that moment.
CREATE TABLE chat.reminder (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id bigint NOT NULL REFERENCES account.person (id),
    client_id uuid NOT NULL,
    at        timestamptz NOT NULL,
    body      text NOT NULL,                     -- as the house will say it
    about     text NOT NULL,                     -- as they wrote it
    made_at   timestamptz NOT NULL DEFAULT now(),
    ended_at  timestamptz,                       -- said or cancelled
    UNIQUE (person_id, client_id)
);
CREATE INDEX reminder_due ON chat.reminder (at) WHERE ended_at IS NULL;

-- Who is away says so, and perhaps why.
ALTER TABLE account.person ADD COLUMN away text; -- NULL: is not
