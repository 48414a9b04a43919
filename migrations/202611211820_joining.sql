-- Joining: who may invite whom, invitations that wait for a person, and what goes from server to server for one account.

alter table account add column invitations smallint
    constraint account_invitations_check check (invitations between 1 and 3);
comment on column account.invitations is 'Who may invite it: 1 everyone, 2 contacts, 3 nobody; null as long as it said nothing, then INVITATIONS holds.';

create table relationship (
    account_id bigint not null constraint relationship_account_id_fkey references account (id),
    other text not null,
    state smallint not null constraint relationship_state_check check (state between 1 and 3),
    note bytea,
    updated_at timestamptz not null,
    expires_at timestamptz,
    constraint relationship_pkey primary key (account_id, other)
);
comment on table relationship is 'What stands between an account of this server and another one, wherever that lives. Each side has its own row, and its own row alone decides for it.';
comment on column relationship.state is '1 asked by the account, 2 asked by the other, 3 agreed.';
comment on column relationship.note is 'What came with the request, opaque.';
comment on column relationship.expires_at is 'When an open request is over; null once agreed.';

create table block (
    account_id bigint not null constraint block_account_id_fkey references account (id),
    other text not null,
    created_at timestamptz not null,
    constraint block_pkey primary key (account_id, other)
);
comment on table block is 'Accounts from which an account takes nothing. Known to nobody else.';

create table invitation (
    id bigint generated always as identity primary key,
    account_id bigint not null constraint invitation_account_id_fkey references account (id),
    stream text not null,
    home text not null,
    inviter text,
    state smallint not null constraint invitation_state_check check (state between 1 and 4),
    offer bytea,
    created_at timestamptz not null,
    due_at timestamptz not null,
    attempts smallint not null default 0
);
comment on table invitation is 'Conversations that an account was brought into and that it has not taken yet.';
comment on column invitation.stream is 'Its public id: of another home''s, nothing else is held here until it is followed.';
comment on column invitation.inviter is 'Who claimed the key packages that the Welcome uses.';
comment on column invitation.state is '1 waits for the person, 2 taken and to be followed, 3 taken, 4 passed over.';
comment on column invitation.offer is 'What another home delivered, as it came, until the stream is followed.';
alter table invitation alter column offer set storage external;
create index invitation_account_id_idx on invitation (account_id, stream);
create index invitation_due_at_idx on invitation (due_at) where state = 2;

-- A Welcome that nobody may see before the person took the invitation.
alter table welcome_pointer drop constraint welcome_pointer_state_check;
alter table welcome_pointer add constraint welcome_pointer_state_check
    check (state in ('waiting', 'accepted', 'rejected', 'held'));

-- A claim for a stream of another home names it: there is no row here to refer to.
alter table key_package_claim
    alter column stream_id drop not null,
    add column stream text,
    add column home text,
    add column peer text,
    add column outside boolean not null default false;
comment on column key_package_claim.stream is 'Public id of the stream that it was claimed for, and the home that the claimer said it has.';
comment on column key_package_claim.peer is 'did:web of the server that asked for one of its accounts; null where the claimer is of this one.';
comment on column key_package_claim.outside is 'That server was not allowed by name.';
create index key_package_claim_target_idx on key_package_claim (target_id, created_at) where one_time and peer is not null;

create table leaf_key (
    stream_id bigint not null constraint leaf_key_stream_id_fkey references stream (id),
    device_id bigint not null constraint leaf_key_device_id_fkey references device (id),
    public_key bytea not null,
    constraint leaf_key_pkey primary key (stream_id, device_id)
);
comment on table leaf_key is 'Signature keys of leaves of other servers'' devices, as the tree showed them when they were added: nothing else tells their leaves from one another.';

create table delivery (
    id bigint generated always as identity primary key,
    public_id text not null constraint delivery_public_id_key unique,
    peer text not null,
    account text not null,
    kind text not null,
    body jsonb not null,
    stream_id bigint constraint delivery_stream_id_fkey references stream (id),
    welcome_id bigint constraint delivery_welcome_id_fkey references welcome (id) on delete cascade,
    refs bytea[] not null,
    created_at timestamptz not null,
    due_at timestamptz not null,
    attempts smallint not null default 0,
    state text not null default 'waiting'
        constraint delivery_state_check check (state in ('waiting', 'accepted', 'pending', 'refused', 'failed')),
    answered_at timestamptz
);
comment on table delivery is 'What other servers are told for one of their accounts. Kept for 30 days, to be told again after a restore.';
comment on column delivery.public_id is 'deliveryId: told twice under it, it counts once.';
comment on column delivery.peer is 'did:web of the account''s server, as it was found last.';
comment on column delivery.refs is 'Of the key packages that the Welcome uses for this account.';
create index delivery_due_at_idx on delivery (due_at) where state = 'waiting';
create index delivery_created_at_idx on delivery (created_at);
create index delivery_account_idx on delivery (account);
create index delivery_welcome_id_idx on delivery (welcome_id);

create table delivered (
    peer text not null,
    account_id bigint not null constraint delivered_account_id_fkey references account (id),
    delivery_id text not null,
    request_hash bytea not null,
    answer jsonb not null,
    created_at timestamptz not null,
    constraint delivered_pkey primary key (peer, account_id, delivery_id)
);
comment on table delivered is 'Answers to what other servers delivered, so that a repeat gets the first one.';
create index delivered_created_at_idx on delivered (created_at);
