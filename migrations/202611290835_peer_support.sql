-- What the version of a peer knows decides what a home may write, and when a delivery is worth another attempt.

create table peer_support (
    server text not null constraint peer_support_pkey primary key,
    version text not null,
    protocol_version bigint not null,
    entry_kinds text[] not null,
    delivery_kinds text[] not null,
    features text[] not null,
    seen_at timestamptz not null,
    told text
);
comment on table peer_support is 'What the version of each server knows that follows or is followed, by its own word in peer.follow.';
comment on column peer_support.server is 'did:web of the peer.';
comment on column peer_support.version is 'Version of the software; empty where the peer did not say.';
comment on column peer_support.protocol_version is 'Version of the protocol between servers.';
comment on column peer_support.entry_kinds is 'Kinds of entries that the peer applies; every server knows the kinds of protocol version 1.';
comment on column peer_support.delivery_kinds is 'Kinds of deliveries that the peer takes.';
comment on column peer_support.features is 'Features that entries may require of the peer, and optional parts of the protocol.';
comment on column peer_support.seen_at is 'When the peer last said so.';
comment on column peer_support.told is 'Digest of what this server last told the peer, as a home, of its own version; null before.';
