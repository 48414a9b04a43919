-- Replication: how far the followers of our streams are, and what we keep of streams that others order.

comment on column stream.state is '0 active; 1 recovering: entries that were lost are being put back; 2 handing to another home; 3 moved; 4 frozen: by a proof of fork or a rewind; 5 closed. Only 0 takes new entries.';

create table follower (
    stream_id bigint not null constraint follower_stream_id_fkey references stream (id),
    server text not null,
    from_seq bigint not null,
    acked_seq bigint not null,
    failures integer not null default 0,
    failing_since timestamptz,
    due_at timestamptz not null,
    leased_until timestamptz,
    created_at timestamptz not null,
    constraint follower_pkey primary key (stream_id, server)
);
comment on table follower is 'How far each server that follows one of our streams is: one row, whatever its backlog. What lies between it and the head is sent.';
comment on column follower.server is 'did:web of the follower.';
comment on column follower.from_seq is 'The first entry that it is sent.';
comment on column follower.acked_seq is 'It said that it holds everything up to here.';
comment on column follower.failures is 'Of this stream alone, in a row; what fails for the whole server is in follower_peer.';
comment on column follower.leased_until is 'A courier is at it, and counts as dead after this.';
create index follower_server_due_at_idx on follower (server, due_at);
create index follower_failing_idx on follower (due_at) where failures > 0;

create table follower_peer (
    server text not null constraint follower_peer_pkey primary key,
    failures integer not null,
    failing_since timestamptz not null,
    due_at timestamptz not null
);
comment on table follower_peer is 'Followers that cannot be reached: one of their streams is tried when it is due, the others wait.';

create table replica (
    stream_id bigint not null constraint replica_pkey primary key constraint replica_stream_id_fkey references stream (id),
    from_seq bigint not null,
    failures smallint not null default 0,
    stopped_by text,
    view jsonb,
    follow_due_at timestamptz,
    follow_failures integer not null default 0,
    checked_at timestamptz not null,
    checked_seq bigint not null default 0,
    ended_at timestamptz,
    created_at timestamptz not null
);
comment on table replica is 'Streams of other homes that this server follows.';
comment on column replica.from_seq is 'The entry that began the newest seat of this server, by the home''s word: it comes with its content.';
comment on column replica.failures is 'Requests of the home in a row that did not hold together.';
comment on column replica.stopped_by is 'The name of the third such failure: nothing more is taken until the stream is followed anew.';
comment on column replica.view is 'The conversation before from_seq, as long as what lies between it and our head is not here; then it becomes seats.';
comment on column replica.follow_due_at is 'When the home is to be asked to follow from our head; null when it need not be.';
comment on column replica.checked_at is 'When another server was last asked for its checkpoint, and how far that was.';
comment on column replica.ended_at is 'When the last seat of this server ended.';
create index replica_follow_due_at_idx on replica (follow_due_at) where follow_due_at is not null;
create index replica_checked_at_idx on replica (checked_at) where ended_at is null;
create index replica_ended_at_idx on replica (ended_at) where ended_at is not null;

create table home_contact (
    server text not null constraint home_contact_pkey primary key,
    reachable_since timestamptz not null,
    last_at timestamptz not null,
    asked_at timestamptz,
    incarnation bigint not null default 0
);
comment on table home_contact is 'When each home of streams that we follow was last heard.';
comment on column home_contact.reachable_since is 'Since when it was never silent for longer than a few minutes.';
comment on column home_contact.asked_at is 'When it was last asked for a fresh checkpoint because it was silent.';
comment on column home_contact.incarnation is 'The greatest that it named.';

create table checkpoint (
    stream_id bigint not null constraint checkpoint_stream_id_fkey references stream (id),
    term bigint not null,
    seq bigint not null,
    statement bytea not null,
    key text not null,
    sig bytea not null,
    constraint checkpoint_pkey primary key (stream_id, term, seq)
);
comment on table checkpoint is 'Checkpoints of other homes: the newest, the last of each term, and of the others so many that 1,024 headers lead from one to the next.';

create table receipt (
    stream_id bigint not null constraint receipt_stream_id_fkey references stream (id),
    account_id bigint not null constraint receipt_account_id_fkey references account (id),
    term bigint not null,
    seq bigint not null,
    statement bytea not null,
    key text not null,
    sig bytea not null,
    created_at timestamptz not null,
    broken_at timestamptz,
    constraint receipt_pkey primary key (stream_id, seq, term)
);
comment on table receipt is 'What homes promised to accounts of this server and is not in the replica yet.';
comment on column receipt.broken_at is 'When the account was told that the promise was not kept.';
create index receipt_created_at_idx on receipt (created_at) where broken_at is null;

create table evidence (
    id bigint generated always as identity primary key,
    stream_id bigint not null constraint evidence_stream_id_fkey references stream (id),
    kind smallint not null constraint evidence_kind_check check (kind in (1, 2, 3)),
    seq bigint not null,
    digest bytea not null,
    bytes bytea not null,
    created_at timestamptz not null,
    constraint evidence_stream_id_digest_key unique (stream_id, digest)
);
comment on table evidence is 'What homes said that contradicts what they said before. Never deleted.';
comment on column evidence.kind is '1 two headers for one number; 2 a proof of fork; 3 a rewind: a checkpoint beyond the base of a restore.';
comment on column evidence.bytes is 'Canonical DAG-CBOR; digest is its SHA-256.';

create table evidence_report (
    evidence_id bigint not null constraint evidence_report_evidence_id_fkey references evidence (id),
    server text not null,
    failures integer not null default 0,
    due_at timestamptz not null,
    constraint evidence_report_pkey primary key (evidence_id, server)
);
comment on table evidence_report is 'Servers that still have to be shown a piece of evidence.';
create index evidence_report_due_at_idx on evidence_report (due_at);

create table recovery (
    stream_id bigint not null constraint recovery_pkey primary key constraint recovery_stream_id_fkey references stream (id),
    begun_at timestamptz not null,
    due_at timestamptz not null
);
comment on table recovery is 'Streams of ours that ask their followers for what was lost.';

-- Who may use a group id here is decided among the conversations of this server: another home takes none away.
alter table convo add column is_foreign boolean not null default false;
comment on column convo.is_foreign is 'Another server orders it.';
alter table convo drop constraint convo_group_id_key;
create unique index convo_group_id_key on convo (group_id) where not is_foreign;

-- Few, and asked for by whoever begins to follow.
create index entry_term_opener_idx on entry (stream_id, seq) where kind in (21, 22);
create index seat_server_idx on seat (stream_id, server);
