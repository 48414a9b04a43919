-- A stream goes from one home to another.

create table handover (
    stream_id bigint not null constraint handover_pkey primary key constraint handover_stream_id_fkey references stream (id),
    server text not null,
    asked_at timestamptz not null,
    handing_until timestamptz,
    seq bigint,
    moved_at timestamptz
);
comment on table handover is 'Streams of ours that a member asked to hand to another server, and those that were handed over.';
comment on column handover.server is 'did:web of the next home. For a day after it was named it may read everything.';
comment on column handover.asked_at is 'When a member asked last.';
comment on column handover.handing_until is 'The stream takes no entries until it was taken over, or until then.';
comment on column handover.seq is 'The #homeChanged with which it went: the last entry that is ours to send.';
comment on column handover.moved_at is 'When it went.';
create index handover_handing_until_idx on handover (handing_until) where handing_until is not null;

create table takeover (
    stream_id bigint not null constraint takeover_pkey primary key constraint takeover_stream_id_fkey references stream (id),
    server text not null,
    seq bigint not null,
    snapshot bytea not null,
    created_at timestamptz not null
);
comment on table takeover is 'Streams of other homes that this server said it would take over, with what the log does not hold.';
comment on column takeover.server is 'did:web of the home that hands it over.';
comment on column takeover.seq is 'The entry at which it was accepted; its #homeChanged is the next, or this never happened.';
comment on column takeover.snapshot is 'As the home sent it.';
alter table takeover alter column snapshot set storage external;

alter table replica add column followed text;
alter table replica add column followed_term bigint not null default 0;
comment on column replica.followed is 'The server that was asked to send: the home by its lineage. After a move, another one is.';
comment on column replica.followed_term is 'The term in which it orders, by its lineage: until we are there, it tells us what homes before it ordered.';
update replica r set followed = s.home, followed_term = s.term from stream s where s.id = r.stream_id;
alter table replica add column backfill_due_at timestamptz;
alter table replica add column backfilled_seq bigint;
comment on column replica.backfill_due_at is 'What was not for us, or was before us, is fetched: the stream is to be ordered here.';
comment on column replica.backfilled_seq is 'Up to here everything is held that the home holds; null: not even the beginning.';
create index replica_backfill_due_at_idx on replica (backfill_due_at) where backfill_due_at is not null;

-- Who ordered when: few entries, asked for by whoever begins to follow.
drop index entry_term_opener_idx;
create index entry_reign_idx on entry (stream_id, seq) where kind in (21, 22, 23);
