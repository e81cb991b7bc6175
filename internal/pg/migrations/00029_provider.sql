-- +goose Up

-- IF NOT EXISTS: for a short time this had numbers that a house which had later ones already would have refused.

-- Who signs in with an OpenID Connect provider: issuer and subject together are one person for ever, names and addresses are not.
CREATE TABLE IF NOT EXISTS account.identity (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id bigint NOT NULL REFERENCES account.person (id) ON DELETE CASCADE,
    issuer    text NOT NULL,
    subject   text NOT NULL,
    name      text NOT NULL,                      -- what the provider called them the last time
    made_at   timestamptz NOT NULL DEFAULT now(),
    used_at   timestamptz,
    UNIQUE (issuer, subject)
);
CREATE INDEX IF NOT EXISTS identity_person ON account.identity (person_id);
