-- Who may register a first device, where not everybody may.

create table account_allowance (
    did text primary key,
    created_at timestamptz not null
);
comment on table account_allowance is 'Accounts that may register although ACCOUNTS is allowlist.';

create table invite (
    id bigint generated always as identity primary key,
    code_hash bytea not null constraint invite_code_hash_key unique,
    uses_left integer not null constraint invite_uses_left_check check (uses_left >= 0),
    expires_at timestamptz not null,
    created_at timestamptz not null
);
comment on table invite is 'Codes that let accounts in while ACCOUNTS is invite. The code itself is not kept.';
comment on column invite.code_hash is 'SHA-256 of the code, which is shown once and kept nowhere.';
