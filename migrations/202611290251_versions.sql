-- Entries and roles of later versions are kept by their names; what an entry requires is kept with its stream.

alter table entry add column kind_name text;
comment on column entry.kind is 'The number of a kind of the first version; 0 for a kind that is kept by its name.';
comment on column entry.kind_name is 'The name of a kind without a number, known to the running version or not.';

alter table seat add column role_name text;
comment on column seat.role is '1 member, 2 admin; 0 for a role that is kept by its name.';
comment on column seat.role_name is 'The name of a role without a number. A role that the running version does not know gives no right but to read.';

alter table stream
    add column requires text[] not null default '{}',
    add column unapplied boolean not null default false;
comment on column stream.requires is 'Features that entries of this stream require. A version that lacks one takes no further entry.';
comment on column stream.unapplied is 'The newest entry requires a feature that the version which adopted the entry lacked: seats do not follow from it yet.';
create index stream_unapplied_idx on stream (id) where unapplied;

-- The tailer asks whose account stream an entry stands in.
create index account_stream_id_idx on account (stream_id);

-- Entries that came before the first that a replica held have negative positions: cursors and the tailer pass over them.
create index entry_backfilled_idx on entry (created_at) where pos < 0 and content is not null;
