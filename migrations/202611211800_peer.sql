-- Other servers: who they are, with which keys they sign, and what this server's operator thinks of them.

create table peer (
    id bigint generated always as identity primary key,
    did text not null constraint peer_did_key unique,
    domain text not null,
    policy smallint not null default 0,
    incarnation bigint not null default 0,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    held_until timestamptz
);
comment on table peer is 'Servers that ever signed a request here, or were called.';
comment on column peer.domain is 'The registrable domain, by which quotas are counted: a thousand subdomains are one.';
comment on column peer.policy is '0 as FEDERATION says, 1 allowed by the operator, 2 blocked.';
comment on column peer.incarnation is 'The life of its database that its answers last named, Unix seconds.';
comment on column peer.last_seen_at is 'Written at most once an hour.';
comment on column peer.held_until is 'It showed a key that no earlier key endorsed: until then, or until the operator decides, nothing goes either way.';

create table peer_key (
    peer_id bigint not null constraint peer_key_peer_id_fkey references peer (id),
    key_id text not null,
    purpose smallint not null,
    alg text not null constraint peer_key_alg_check check (alg in ('ES256', 'EdDSA')),
    public_key bytea not null,
    state smallint not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    constraint peer_key_pkey primary key (peer_id, key_id)
);
comment on table peer_key is 'Keys of peers as first seen. Those that signed statements are needed for as long as the statements.';
comment on column peer_key.key_id is 'The fragment in the server''s document: #peer-<tag> or #checkpoint-<tag>.';
comment on column peer_key.purpose is '1 signs requests, 2 signs statements.';
comment on column peer_key.state is '0 held, 1 accepted, 2 refused by the operator.';

-- Every key that this server ever signed with, for peer.getKeys.
create table server_key (
    key_id text primary key,
    purpose smallint not null,
    multikey text not null,
    not_before timestamptz not null,
    not_after timestamptz,
    endorsed_by text,
    endorsement bytea
);
comment on table server_key is 'This server''s own keys, past and present.';
comment on column server_key.endorsement is 'Signature of an earlier key under "rookery key v1" over {v, server, id, publicKeyMultibase, notBefore}.';
