-- The log: streams, entries, seats. The byte formats are those of docs/ARCHITECTURE.md, "The log".

create table log_origin (
    one boolean primary key default true constraint log_origin_one_check check (one),
    base bigint not null,
    system_id bigint not null,
    timeline integer not null,
    incarnation bigint not null
);
comment on table log_origin is 'One row: what turns transaction ids into positions, and which cluster they belong to.';

create table log_restore (
    incarnation bigint constraint log_restore_pkey primary key,
    reason text not null,
    restored_pos bigint not null,
    base bigint not null,
    restored_to timestamptz not null,
    created_at timestamptz not null
);
comment on table log_restore is 'One row for each time that this database was found to have gone back in time. Positions above restored_pos and not above base were handed out in the future that was lost.';
comment on column log_restore.restored_to is 'When the newest entry that is still there was ordered.';

create table stream (
    id bigint generated always as identity primary key,
    public_id text not null constraint stream_public_id_key unique,
    kind smallint not null,
    home text not null,
    term bigint not null,
    incarnation bigint not null,
    generation integer not null default 1,
    epoch bigint not null default 0,
    epoch_floor bigint not null default 0,
    head_seq bigint not null default 0,
    head_pos bigint not null default 0,
    head_time timestamptz not null,
    head_hash bytea not null,
    rules bigint not null default 0,
    state smallint not null default 0,
    genesis bytea not null,
    created_at timestamptz not null
) with (fillfactor = 70);
comment on table stream is 'Append-only, hash-chained logs, each ordered by one server. The head is its newest entry.';
comment on column stream.home is 'did:web of the server that orders this stream.';
comment on column stream.incarnation is 'The incarnation of this server in which the term was opened or went on: an older one opens a new term first.';
comment on column stream.epoch is 'MLS epoch, and the oldest epoch from which an application message is still accepted.';
comment on column stream.rules is 'Raised by every change of a seat, epoch or state, so that rights can be cached and compared.';
comment on column stream.state is '0 active, 1 recovering: entries that were lost are being put back, and nothing new is ordered.';
-- No index on the head_* columns: every append updates them, and stays HOT without one.

alter table account
    add constraint account_stream_id_fkey foreign key (stream_id) references stream (id);

create table entry (
    seq bigint not null,
    pos bigint not null,
    epoch bigint,
    created_at timestamptz not null,
    stream_id bigint not null,
    author bigint,
    device bigint,
    idem uuid,
    request_hash bytea,
    kind smallint not null,
    header bytea not null,
    content bytea,
    hash bytea not null,
    constraint entry_pkey primary key (stream_id, seq),
    constraint entry_stream_id_idem_key unique (stream_id, idem),
    constraint entry_pos_key unique (pos)
);
comment on table entry is 'The log. An entry is a header, which stays, and a content, which may be withheld, age out or be erased.';
comment on column entry.idem is 'First 16 bytes of SHA-256 over [actor, device, method, idem], and SHA-256 of the request body.';
comment on column entry.content is 'Canonical DAG-CBOR {body, salt, author?, device?}; null when withheld, aged out or erased.';
alter table entry alter column content set storage external;

create table seat (
    stream_id bigint not null constraint seat_stream_id_fkey references stream (id),
    account_id bigint not null constraint seat_account_id_fkey references account (id),
    from_seq bigint not null,
    until_seq bigint,
    role smallint not null,
    server text not null,
    constraint seat_pkey primary key (stream_id, account_id, from_seq)
);
comment on table seat is 'Who may read a stream, from which entry to which, in which role. Follows from the entries alone.';
comment on column seat.server is 'did:web of the account''s server.';
create unique index seat_stream_id_account_id_open_key on seat (stream_id, account_id) where until_seq is null;
create index seat_account_id_idx on seat (account_id, stream_id) include (from_seq, until_seq, role);

create table seat_device (
    stream_id bigint not null constraint seat_device_stream_id_fkey references stream (id),
    device_id bigint not null constraint seat_device_device_id_fkey references device (id),
    account_id bigint not null constraint seat_device_account_id_fkey references account (id),
    from_seq bigint not null,
    until_seq bigint,
    constraint seat_device_pkey primary key (stream_id, device_id, from_seq)
);
comment on table seat_device is 'Leaves of the group''s tree, as intervals. They outlast the seat of an account that left, until a commit removes them.';
create unique index seat_device_stream_id_device_id_open_key on seat_device (stream_id, device_id) where until_seq is null;
create index seat_device_device_id_idx on seat_device (device_id) where until_seq is null;

create table answer (
    account_id bigint not null constraint answer_account_id_fkey references account (id),
    device_id bigint not null constraint answer_device_id_fkey references device (id),
    method text not null,
    idem text not null,
    request_hash bytea not null,
    body jsonb not null,
    created_at timestamptz not null,
    constraint answer_pkey primary key (account_id, device_id, method, idem)
);
comment on table answer is 'First answers of calls that no entry can rebuild.';

create table outbox (
    id bigint generated always as identity primary key,
    account_id bigint not null constraint outbox_account_id_fkey references account (id),
    kind smallint not null,
    body bytea not null,
    created_at timestamptz not null
);
comment on table outbox is 'Entries to be appended to other streams, written in the transaction that caused them. The courier takes them from here.';
comment on column outbox.account_id is 'Whose account stream.';
