-- Of the cargo feature `next-version` alone: what a later version adds to the schema, for the test of upgrades.

create table next_note (
    stream_id bigint not null constraint next_note_stream_id_fkey references stream (id),
    seq bigint not null,
    text text not null,
    constraint next_note_pkey primary key (stream_id, seq)
);
comment on table next_note is 'Each #note entry that this server ordered, once.';

create table next_delivery (
    id bigint generated always as identity primary key,
    account_id bigint not null constraint next_delivery_account_id_fkey references account (id),
    text text not null
);
comment on table next_delivery is 'Each note that another server delivered, as often as it was taken.';

alter table stream add column next_notes bigint not null default 0;
comment on column stream.next_notes is 'Rows of next_note: a version that does not know the column must leave it as it is.';
