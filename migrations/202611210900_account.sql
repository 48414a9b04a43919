-- Accounts (DIDs) that this server knows, and the devices that they registered here.

create table account (
    id bigint generated always as identity primary key,
    did text not null constraint account_did_key unique,
    stream_id bigint,
    created_at timestamptz not null,
    server text,
    suspended_at timestamptz,
    suspended_reason text
);
comment on table account is 'DIDs that this server knows: those that registered a device here, and members on other servers.';
comment on column account.stream_id is 'The account''s own stream; null for an account that has registered no device here.';
comment on column account.server is 'did:web of the server that the account''s DID document names, where that is another than this one.';
comment on column account.suspended_at is 'By an operator; the reason is for operators alone.';

create table device (
    id bigint generated always as identity primary key,
    account_id bigint not null constraint device_account_id_fkey references account (id),
    public_id text not null,
    public_key bytea not null,
    alg text not null constraint device_alg_check check (alg in ('ES256', 'ES256K', 'EdDSA')),
    kind text not null constraint device_kind_check check (kind in ('app', 'machine')),
    state text not null constraint device_state_check check (state in ('certified', 'uncertified', 'revoked', 'foreign')),
    name bytea,
    platform text,
    created_at timestamptz not null,
    last_seen_at timestamptz,
    account_proven_at timestamptz,
    revoked_at timestamptz,
    constraint device_account_id_public_id_key unique (account_id, public_id)
);
comment on table device is 'Clients of accounts, registered here; of members on other servers, as far as entries name them.';
comment on column device.public_id is 'Derived from the public key: one key is one device, of one account, for ever.';
comment on column device.public_key is 'Empty for a device of another server: its key is that server''s business.';
comment on column device.alg is 'JWS name of the key''s algorithm: ES256, ES256K or EdDSA.';
comment on column device.account_proven_at is 'When it last came with a service token of its account; null: when it was registered.';
-- What other servers say of devices binds nobody here: they cannot take an id away.
create unique index device_public_id_key on device (public_id) where state <> 'foreign';

create index device_account_id_idx on device (account_id);

create table device_key (
    public_key bytea not null,
    device_id bigint not null constraint device_key_device_id_fkey references device (id),
    constraint device_key_pkey primary key (public_key)
);
comment on table device_key is 'Every key that may sign for a device: its own, and the further MLS keys that its certificate lists. One key belongs to one device, for ever.';
create index device_key_device_id_idx on device_key (device_id);

create table device_link (
    account_id bigint not null constraint device_link_account_id_fkey references account (id),
    generation integer not null,
    seq integer not null,
    device_id bigint not null constraint device_link_device_id_fkey references device (id),
    revokes boolean not null,
    bytes bytea not null,
    hash bytea not null,
    created_at timestamptz not null,
    constraint device_link_pkey primary key (account_id, generation, seq)
);
comment on table device_link is 'The links of device chains, as made. The newest of an account is the head; a reset begins a new generation.';
comment on column device_link.device_id is 'Whom it certifies or revokes.';
comment on column device_link.bytes is 'Canonical DAG-CBOR {statement, sig?}.';
create unique index device_link_device_id_revokes_key on device_link (device_id, revokes);

create table pairing (
    id bigint generated always as identity primary key,
    public_id text not null constraint pairing_public_id_key unique,
    public_key bytea not null,
    alg text not null constraint pairing_alg_check check (alg in ('ES256', 'ES256K', 'EdDSA')),
    kind text not null constraint pairing_kind_check check (kind in ('app', 'machine')),
    name bytea,
    platform text,
    expires_at timestamptz not null,
    device_id bigint constraint pairing_device_id_fkey references device (id),
    approval_hash bytea,
    payload bytea,
    claim_idem text
);
comment on table pairing is 'New devices that wait for a certified one. Rows go soon after they are over.';
comment on column pairing.device_id is 'Set together, by the one approval: the device that it certified, by which request, and what it left.';
comment on column pairing.claim_idem is 'Set by the one claim.';
create index pairing_expires_at_idx on pairing (expires_at);
