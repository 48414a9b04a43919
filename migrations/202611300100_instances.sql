-- Unlogged: the rows are worth nothing after a crash, and instances write theirs every few seconds.
create unlogged table instance (
    id text primary key,
    role text not null check (role in ('all', 'api', 'worker')),
    seen_at timestamptz not null
) with (fillfactor = 50);

comment on table instance is 'Running processes of this server. Every process renews its row at short intervals and deletes the row when it ends.';
comment on column instance.role is 'SERVER_ROLE of the process.';
comment on column instance.seen_at is 'When the process last renewed its row, by the clock of Postgres.';
