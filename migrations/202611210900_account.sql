-- Accounts (DIDs) that this server knows, and the devices that they registered here.

create table account (
    id bigint generated always as identity primary key,
    did text not null constraint account_did_key unique,
    -- The account's own stream; null for an account that has registered no device here.
    stream_id bigint,
    created_at timestamptz not null,
    -- did:web of the server that the account's DID document names, where that is another than this one.
    server text,
    -- By an operator; the reason is for operators alone.
    suspended_at timestamptz,
    suspended_reason text
);

create table device (
    id bigint generated always as identity primary key,
    account_id bigint not null constraint device_account_id_fkey references account (id),
    -- Derived from the public key: one key is one device, of one account, for ever.
    public_id text not null constraint device_public_id_key unique,
    public_key bytea not null,
    -- JWS name of the key's algorithm: ES256, ES256K or EdDSA.
    alg text not null constraint device_alg_check check (alg in ('ES256', 'ES256K', 'EdDSA')),
    kind text not null constraint device_kind_check check (kind in ('app', 'machine')),
    state text not null constraint device_state_check check (state in ('certified', 'uncertified', 'revoked')),
    name bytea,
    platform text,
    created_at timestamptz not null,
    last_seen_at timestamptz,
    -- When it last came with a service token of its account; null: when it was registered.
    account_proven_at timestamptz,
    revoked_at timestamptz
);

create index device_account_id_idx on device (account_id);
