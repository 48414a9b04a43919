-- What each account, conversation and domain makes this server keep, and how much each may.

alter table stream add column size_bytes bigint not null default 0;
comment on column stream.size_bytes is 'Bytes of all headers and contents that were ever appended. What has gone since is in stream_freed.';
create table stream_freed (
    stream_id bigint constraint stream_freed_pkey primary key
        constraint stream_freed_stream_id_fkey references stream (id) on delete cascade,
    freed_bytes bigint not null
);
comment on table stream_freed is 'Bytes of contents that aged out or were erased. Beside the stream''s row, which every append locks.';

alter table welcome add column account_id bigint constraint welcome_account_id_fkey references account (id);
comment on column welcome.account_id is 'The account that brought it: who committed, or who imported it. Null where another server delivered it.';
create index welcome_account_id_idx on welcome (account_id) where account_id is not null;

alter table group_info add column account_id bigint constraint group_info_account_id_fkey references account (id);
comment on column group_info.account_id is 'The account that brought it. Null where another server did.';
create index group_info_account_id_idx on group_info (account_id) where account_id is not null;

create index key_package_account_id_idx on key_package (account_id);

create table account_usage (
    account_id bigint constraint account_usage_pkey primary key
        constraint account_usage_account_id_fkey references account (id),
    domain text,
    log_bytes bigint not null default 0,
    log_rows bigint not null default 0,
    freed_bytes bigint not null default 0,
    other_bytes bigint not null default 0,
    other_rows bigint not null default 0,
    measured_at timestamptz
);
comment on table account_usage is 'What each account makes this server keep, summed by a worker.';
comment on column account_usage.domain is 'The registrable domain of a did:web account.';
comment on column account_usage.log_bytes is 'Of the entries that the account wrote, as far as log_sweep has counted them; what has gone of them since is freed_bytes.';
comment on column account_usage.other_bytes is 'In all other tables of the registry in src/quota/tables.rs.';
create index account_usage_domain_idx on account_usage (domain) include (log_bytes, freed_bytes, other_bytes, log_rows, other_rows)
    where domain is not null;
create index account_usage_measured_at_idx on account_usage (measured_at nulls first);

create table domain_usage (
    domain text constraint domain_usage_pkey primary key,
    bytes bigint not null,
    rows bigint not null,
    measured_at timestamptz not null
);
comment on table domain_usage is 'What all did:web accounts of a registrable domain make this server keep.';

create table account_quota (
    account_id bigint constraint account_quota_pkey primary key
        constraint account_quota_account_id_fkey references account (id),
    bytes bigint,
    rows bigint,
    set_at timestamptz not null
);
comment on table account_quota is 'Quotas that an operator set for one account, in the place of the settings.';

-- How far entries are counted.
insert into log_sweep (job) values (50);
