-- Accounts (DIDs) that this server knows, and the devices that they registered here.

create table account (
    id bigint generated always as identity primary key,
    did text not null constraint account_did_key unique,
    -- The account's own stream; null for an account that has registered no device here.
    stream_id bigint,
    created_at timestamptz not null
);

create table device (
    id bigint generated always as identity primary key,
    account_id bigint not null constraint device_account_id_fkey references account (id),
    -- Derived from the public key: one key is one device, of one account, for ever.
    public_id text not null,
    -- Empty for a device of another server: its key is that server's business.
    public_key bytea not null,
    -- JWS name of the key's algorithm: ES256, ES256K or EdDSA.
    alg text not null constraint device_alg_check check (alg in ('ES256', 'ES256K', 'EdDSA')),
    kind text not null constraint device_kind_check check (kind in ('app', 'machine')),
    state text not null constraint device_state_check check (state in ('certified', 'uncertified', 'revoked', 'foreign')),
    name bytea,
    platform text,
    created_at timestamptz not null,
    last_seen_at timestamptz,
    revoked_at timestamptz,
    constraint device_account_id_public_id_key unique (account_id, public_id)
);
-- What other servers say of devices binds nobody here: they cannot take an id away.
create unique index device_public_id_key on device (public_id) where state <> 'foreign';
