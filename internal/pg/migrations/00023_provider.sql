-- +goose Up

-- Who signs in with an OpenID Connect provider: issuer and subject together are one person for ever, names and addresses are not.
CREATE TABLE account.identity (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id bigint NOT NULL REFERENCES account.person (id) ON DELETE CASCADE,
    issuer    text NOT NULL,
    subject   text NOT NULL,
    name      text NOT NULL,                      -- what the provider called them the last time
    made_at   timestamptz NOT NULL DEFAULT now(),
    used_at   timestamptz,
    UNIQUE (issuer, subject)
);
CREATE INDEX identity_person ON account.identity (person_id);
