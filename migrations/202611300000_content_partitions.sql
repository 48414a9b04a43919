-- An entry is written once: its content, which leaves, and the identity of its call, which is forgotten, are rows of their
-- own in partitions by time, so that old rows go by dropping a partition.

create table content (
    week smallint not null,
    pos bigint not null,
    bytes bytea not null,
    constraint content_pkey primary key (week, pos)
) partition by list (week);
alter table content alter column bytes set storage external;
comment on table content is 'Contents of entries. No row: the content is withheld, aged out or erased.';
comment on column content.week is 'For messages the week since 1970 in which this server stored the message, or in which a backfilled message was made; 0 for contents that stay, or leave one by one.';
comment on column content.bytes is 'Canonical DAG-CBOR {body, salt, author?, device?}.';
create table content_0 partition of content for values in (0);

create table call_identity (
    period smallint not null,
    stream_id bigint not null,
    idem uuid not null,
    seq bigint not null,
    request_hash bytea not null,
    constraint call_identity_pkey primary key (period, stream_id, idem)
) partition by list (period);
comment on table call_identity is 'Calls that appended an entry, for 35 days. Uniqueness within a stream follows from the compare-and-set on its head.';
comment on column call_identity.period is 'The period of 35 days since 1970 in which this server stored the entry.';
comment on column call_identity.idem is 'First 16 bytes of SHA-256 over [actor, device, method, idem].';
comment on column call_identity.request_hash is 'SHA-256 of the request body.';

create function add_log_partitions(weeks smallint[], periods smallint[]) returns void
language plpgsql set lock_timeout = '3s' as $$
declare
    parent text;
    bound smallint;
    partition text;
begin
    perform pg_advisory_xact_lock(hashtextextended('partitions of the log', 0));
    for parent, bound in
        select 'content', unnest(weeks) union all select 'call_identity', unnest(periods)
    loop
        partition := parent || '_' || bound;
        if to_regclass(partition) is null then
            execute format('create table %I (like %I including all)', partition, parent);
            execute format('alter table %I attach partition %I for values in (%s)', parent, partition, bound);
        end if;
    end loop;
end
$$;
comment on function add_log_partitions is 'Makes the partitions that are missing. Attaching holds up no reader and no writer.';

create function drop_log_partition(partition text) returns void
language plpgsql set lock_timeout = '200ms' as $$
begin
    if exists (
        select 1 from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent in ('content'::regclass, 'call_identity'::regclass)
          and c.relname = partition and c.relname <> 'content_0'
    ) then
        execute format('drop table %I', partition);
    end if;
end
$$;
comment on function drop_log_partition is 'Drops a partition, if no other transaction uses the table for longer than 200 ms.';

-- The same columns in an order without padding, and without what moved away.
alter table entry rename to entry_before;
alter table entry_ageing drop constraint entry_ageing_stream_id_seq_fkey;
create table entry (
    stream_id bigint not null,
    seq bigint not null,
    pos bigint not null,
    created_at timestamptz not null,
    epoch bigint,
    author bigint,
    device bigint,
    content_bytes integer not null,
    week smallint not null,
    kind smallint not null,
    header bytea not null,
    hash bytea not null,
    kind_name text
);
comment on table entry is 'The log. An entry is a header, which stays, and a content, which may be withheld, age out or be erased.';
comment on column entry.kind is 'The number of a kind of the first version; 0 for a kind that is kept by its name.';
comment on column entry.kind_name is 'The name of a kind without a number, known to the running version or not.';
comment on column entry.content_bytes is 'Size of the content that this server stored with the entry, gone or not; 0 for an entry without.';
comment on column entry.week is 'The partition of table content in which the content is.';

do $$
declare
    this_week constant smallint := extract(epoch from now())::bigint / 604800;
    this_period constant smallint := extract(epoch from now())::bigint / 3024000;
begin
    if exists (select 1 from entry_before) then
        perform add_log_partitions(array[this_week], array[this_period]);
    end if;
    insert into entry
        select stream_id, seq, pos, created_at, epoch, author, device, coalesce(octet_length(content), 0),
               case when kind = 4 then this_week else 0 end, kind, header, hash, kind_name
        from entry_before;
    insert into content
        select case when kind = 4 then this_week else 0 end, pos, content from entry_before where content is not null;
    insert into call_identity
        select this_period, stream_id, idem, seq, request_hash from entry_before
        where idem is not null and request_hash is not null;
end
$$;
drop table entry_before;

alter table entry
    add constraint entry_pkey primary key (stream_id, seq),
    add constraint entry_pos_key unique (pos);
alter table entry_ageing
    add constraint entry_ageing_stream_id_seq_fkey foreign key (stream_id, seq) references entry (stream_id, seq);
create index entry_erased_idx on entry (stream_id, seq) where kind = 8;
-- Unread messages are all entries but these.
create index entry_other_idx on entry (stream_id, seq) where kind <> 4;
create index entry_reign_idx on entry (stream_id, seq) where kind in (21, 22, 23);

comment on column log_sweep.pos is 'Entries up to here are done with. Readers find no content of messages up to the mark of job 2.';

-- What is read where contents are read. A message behind the mark of job 2 has aged out; its bytes go with their partition.
create view entry_content as
    select e.stream_id, e.seq, e.pos, e.created_at, e.epoch, e.author, e.kind, e.kind_name, e.week, e.header, e.hash,
           c.bytes as content
    from entry e
    left join lateral (
        select content.bytes from content
        where content.week = e.week and content.pos = e.pos
          and (e.week = 0 or e.pos < 0 or e.pos > (select m.pos from log_sweep m where m.job = 2))
        limit 1
    ) c on true;
comment on view entry_content is 'Entries with the contents that have not gone.';

-- Tables that grow without end, or change much: the default shares of dead rows are too many here.
alter table entry set (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table content_0 set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
alter table stream set (autovacuum_vacuum_scale_factor = 0.02);
alter table seat set (autovacuum_vacuum_scale_factor = 0.02);
alter table read_position set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
alter table outbox set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
