-- Tickets that were not spent yet, shared by all replicas. Unlogged: a ticket lives for half a minute, and one that a
-- crash of the database lost is asked for again.

create unlogged table ticket (
    hash bytea not null constraint ticket_hash_check check (octet_length(hash) = 32),
    device_id bigint not null constraint ticket_device_id_fkey references device (id),
    nsid text not null,
    expires_at timestamptz not null,
    constraint ticket_pkey primary key (hash)
);
comment on table ticket is 'Tickets that were not spent yet, by their hash.';
comment on column ticket.hash is 'SHA-256 of the ticket, under a label. The ticket itself is kept nowhere.';
comment on column ticket.nsid is 'The method that it is for.';
create index ticket_device_id_expires_at_idx on ticket (device_id, expires_at);
create index ticket_expires_at_idx on ticket (expires_at);
