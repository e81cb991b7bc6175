-- +goose Up

-- How often was tried to get in, by address, account or known browser: see account.take. Written for every try, and worth nothing after a crash: so it costs no WAL.
CREATE UNLOGGED TABLE account.try (
    key     text COLLATE "C" PRIMARY KEY,
    full_at timestamptz NOT NULL                 -- when all tries are there again; from then on the row means nothing
);
CREATE INDEX try_full ON account.try (full_at);

-- A browser in which somebody has signed in before: who guesses from elsewhere does not take its tries away.
CREATE TABLE account.device (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id  bigint NOT NULL REFERENCES account.person (id) ON DELETE CASCADE,
    token_hash bytea NOT NULL,                   -- sha256; several people may use one browser
    seen_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (token_hash, person_id)
);
CREATE INDEX device_person ON account.device (person_id);

-- What holds once and for a short time: a sign-in that waits for its second factor, a link to come back in by.
CREATE TABLE account.ticket (
    token_hash bytea PRIMARY KEY,
    kind       text NOT NULL,
    person_id  bigint REFERENCES account.person (id) ON DELETE CASCADE,
    data       jsonb NOT NULL DEFAULT '{}',
    tries      integer NOT NULL DEFAULT 0,
    ends_at    timestamptz NOT NULL
);
CREATE INDEX ticket_end ON account.ticket (ends_at);
CREATE INDEX ticket_person ON account.ticket (person_id) WHERE person_id IS NOT NULL;

-- Codes from an app (RFC 6238).
CREATE TABLE account.totp (
    person_id    bigint PRIMARY KEY REFERENCES account.person (id) ON DELETE CASCADE,
    key_id       bytea NOT NULL,                 -- of the key, in a file outside the database, that secret is sealed with
    secret       bytea NOT NULL,                 -- XChaCha20-Poly1305: nonce, then the sealed secret
    made_at      timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz,                    -- NULL: never answered with a code, so nobody is asked for one
    step         bigint NOT NULL DEFAULT 0       -- the newest time step whose code was taken: none is taken twice
);
CREATE TABLE account.recovery_code (
    person_id bigint NOT NULL REFERENCES account.person (id) ON DELETE CASCADE,
    code_hash bytea NOT NULL,                    -- sha256 of 80 random bits; the row goes when it is used
    PRIMARY KEY (person_id, code_hash)
);

-- What an owner has settled for the house.
CREATE TABLE account.rule (
    single        boolean PRIMARY KEY DEFAULT true CHECK (single),
    second_factor boolean NOT NULL DEFAULT false -- owners and admins need one
);
INSERT INTO account.rule DEFAULT VALUES;

-- Passkeys (WebAuthn): what is kept of one is public.
CREATE TABLE account.passkey (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id     bigint NOT NULL REFERENCES account.person (id) ON DELETE CASCADE,
    credential_id bytea NOT NULL UNIQUE,
    user_handle   bytea NOT NULL,                -- random, one for all of a person's
    credential    jsonb NOT NULL,                -- public key, flags, counter: webauthn.Credential of github.com/go-webauthn/webauthn
    name          text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    used_at       timestamptz,
    cloned_at     timestamptz                    -- its counter went back: there is a second one, and neither opens anything any more
);
CREATE INDEX passkey_person ON account.passkey (person_id);
