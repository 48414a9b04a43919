-- The age of an entry does not follow from its date alone: the home of a stream dates the entries, and may date them ahead.

create table log_age (
    noted_at timestamptz constraint log_age_pkey primary key,
    pos bigint not null
);
comment on table log_age is 'Once a day, a position below which this server had stored every entry by then.';
comment on column log_age.pos is 'Entries up to here are at least as old as the row, whatever their dates say.';
