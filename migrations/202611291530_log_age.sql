-- The age of an entry does not follow from its date alone: the home of a stream dates the entries, and may date them ahead.

create table log_age (
    noted_at timestamptz constraint log_age_pkey primary key,
    pos bigint not null
);
comment on table log_age is 'One row a day: by noted_at, this server had stored every entry up to pos.';
comment on column log_age.pos is 'Entries up to here count as at least as old as the row, whatever their dates are.';
