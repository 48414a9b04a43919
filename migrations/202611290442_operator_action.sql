-- What operators did, for ever.

create table operator_action (
    seq bigint primary key,
    statement bytea not null,
    hash bytea not null,
    account text,
    created_at timestamptz not null
);
comment on table operator_action is 'The log of operators'' actions: append-only, each record names the hash of the one before.';
comment on column operator_action.statement is 'Canonical DAG-CBOR {v, seq, prev, at, by, action, account?, detail}.';
comment on column operator_action.hash is 'SHA-256 of the label, a zero byte and the statement.';
comment on column operator_action.account is 'The account that it concerns.';
create index operator_action_account_idx on operator_action (account, seq) where account is not null;

create function operator_action_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'operator_action is append-only';
end
$$;
create trigger operator_action_append_only before update or delete or truncate on operator_action
    for each statement execute function operator_action_is_append_only();
