-- What time does to the log: how far it has come, and what it needs to find what is due.

create table log_sweep (
    job smallint constraint log_sweep_pkey primary key,
    pos bigint not null default 0,
    aged_pos bigint not null default 0
);
comment on table log_sweep is 'Entries are passed once, in the order of their positions. What the jobs are is in src/log/retention/jobs.rs.';
comment on column log_sweep.pos is 'Entries up to here are done with.';
comment on column log_sweep.aged_pos is 'The greatest position whose content aged out by this job: an older cursor is told so.';
insert into log_sweep (job) values (1), (2), (3), (4);

create table entry_ageing (
    stream_id bigint not null,
    seq bigint not null,
    created_at timestamptz not null,
    constraint entry_ageing_pkey primary key (stream_id, seq),
    constraint entry_ageing_stream_id_seq_fkey foreign key (stream_id, seq) references entry (stream_id, seq)
);
comment on table entry_ageing is 'Handshakes that change no seat. Each leaves with its content, which may be long after its term.';
create index entry_ageing_created_at_idx on entry_ageing (created_at);

create index answer_created_at_idx on answer (created_at);
create index key_package_expires_at_idx on key_package (expires_at);
create index welcome_created_at_idx on welcome (created_at);
create index welcome_pointer_welcome_id_idx on welcome_pointer (welcome_id);
-- Streams of canaries: few, and found by age.
create index stream_canary_idx on stream (id) where kind = 9;

-- A queue an account, in the order of the ids. The head of a queue that cannot be delivered is put off, and in the end
-- set aside, so that what is behind it goes on.
alter table outbox
    add column attempts smallint not null default 0,
    add column due_at timestamptz not null default now(),
    add column parked_at timestamptz;
create index outbox_account_id_idx on outbox (account_id, id) where parked_at is null;
