-- Messages that are to be erased in steps, because their author left and asked for it.

create table erasure_job (
    id bigint generated always as identity primary key,
    stream_id bigint not null constraint erasure_job_stream_id_fkey references stream (id),
    account_id bigint not null constraint erasure_job_account_id_fkey references account (id),
    device_id bigint not null constraint erasure_job_device_id_fkey references device (id),
    through_seq bigint not null,
    done_seq bigint not null default 0,
    due_at timestamptz not null default now(),
    created_at timestamptz not null
);
comment on table erasure_job is 'Accounts that left a stream and asked that their messages be erased. The job is written with the entry that ends the seat, and deleted with its last step.';
comment on column erasure_job.done_seq is 'Messages of the account up to here are erased.';
create index erasure_job_due_at_idx on erasure_job (due_at);
create index erasure_job_stream_id_idx on erasure_job (stream_id);
create index erasure_job_account_id_idx on erasure_job (account_id);
create index erasure_job_device_id_idx on erasure_job (device_id);
