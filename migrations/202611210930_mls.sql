-- Chat: what the delivery service of RFC 9750 keeps beside the log.

create table convo (
    stream_id bigint primary key constraint convo_stream_id_fkey references stream (id),
    group_id bytea not null constraint convo_group_id_key unique,
    cipher_suite integer not null,
    handshake_policy smallint not null,
    policy jsonb not null,
    metadata bytea,
    created_at timestamptz not null
);
comment on table convo is 'A conversation: what its stream''s first entries fix for life, and what its admins may change.';
comment on column convo.handshake_policy is '0 opaque (PrivateMessage handshakes), 1 validated (PublicMessage handshakes). Fixed for life.';

create table group_info (
    stream_id bigint not null constraint group_info_stream_id_fkey references convo (stream_id),
    epoch bigint not null,
    bytes bytea not null,
    created_at timestamptz not null,
    constraint group_info_pkey primary key (stream_id, epoch)
);
comment on table group_info is 'GroupInfo with its tree, of the newest epochs.';
alter table group_info alter column bytes set storage external;

create table key_package (
    id bigint generated always as identity primary key,
    account_id bigint not null constraint key_package_account_id_fkey references account (id),
    device_id bigint not null constraint key_package_device_id_fkey references device (id),
    cipher_suite integer not null,
    ref bytea not null constraint key_package_ref_key unique,
    init_key_hash bytea not null,
    bytes bytea not null,
    last_resort boolean not null,
    expires_at timestamptz not null,
    created_at timestamptz not null,
    claimed_at timestamptz,
    retired_at timestamptz,
    constraint key_package_device_id_init_key_hash_key unique (device_id, init_key_hash)
);
comment on table key_package is 'Pools of key packages (RFC 9420 section 10), one for each device and suite, with at most one of last resort.';
comment on column key_package.claimed_at is 'A one-time package is claimed once. A last-resort package is never marked here.';
comment on column key_package.retired_at is 'Revoked with its device, or replaced by a newer last-resort package.';
create index key_package_pool_idx on key_package (device_id, cipher_suite, last_resort, id)
    where claimed_at is null and retired_at is null;

create table key_package_claim (
    id bigint generated always as identity primary key,
    key_package_id bigint not null constraint key_package_claim_key_package_id_fkey references key_package (id),
    claimer_id bigint not null constraint key_package_claim_claimer_id_fkey references account (id),
    target_id bigint not null constraint key_package_claim_target_id_fkey references account (id),
    stream_id bigint not null constraint key_package_claim_stream_id_fkey references stream (id),
    one_time boolean not null,
    created_at timestamptz not null,
    spent_at timestamptz
);
comment on table key_package_claim is 'To whom a package was handed out: the claim binds it to one stream for 24 hours.';
comment on column key_package_claim.spent_at is 'Set by the commit that used it.';
create index key_package_claim_key_package_id_idx on key_package_claim (key_package_id, stream_id);
create index key_package_claim_quota_idx on key_package_claim (claimer_id, target_id, created_at) where one_time;

create table welcome (
    id bigint generated always as identity primary key,
    stream_id bigint not null constraint welcome_stream_id_fkey references convo (stream_id),
    term bigint not null,
    seq bigint not null,
    epoch bigint not null,
    bytes bytea not null,
    created_at timestamptz not null
);
comment on table welcome is 'One Welcome per commit, stored once; a pointer per device.';
comment on column welcome.epoch is 'The epoch that the Welcome leads into.';
alter table welcome alter column bytes set storage external;

create table welcome_pointer (
    id bigint generated always as identity primary key,
    welcome_id bigint not null constraint welcome_pointer_welcome_id_fkey references welcome (id),
    device_id bigint not null constraint welcome_pointer_device_id_fkey references device (id),
    ref bytea not null,
    state text not null default 'waiting'
        constraint welcome_pointer_state_check check (state in ('waiting', 'accepted', 'rejected')),
    reason text,
    acked_at timestamptz
);
comment on table welcome_pointer is 'Which device a Welcome is for, and what became of it there.';
create index welcome_pointer_device_id_idx on welcome_pointer (device_id, id) where state = 'waiting';

create table read_position (
    account_id bigint not null constraint read_position_account_id_fkey references account (id),
    stream_id bigint not null constraint read_position_stream_id_fkey references stream (id),
    seq bigint not null,
    updated_at timestamptz not null,
    constraint read_position_pkey primary key (account_id, stream_id)
);
comment on table read_position is 'How far an account has read a stream. A row, never an entry.';
