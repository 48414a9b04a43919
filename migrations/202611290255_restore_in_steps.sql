-- A restore writes the same few rows however much is stored: what it makes doubtful is recognised by its incarnation.

alter table log_origin add column written_in bigint, add column service_did text;
update log_origin set written_in = pg_current_xact_id()::text::bigint;
alter table log_origin alter column written_in set not null;
comment on column log_origin.written_in is 'The transaction that wrote this row: where the row''s own xmin is another, the database was copied row by row.';
comment on column log_origin.service_did is 'The server whose conversations these are.';

alter table key_package add column incarnation bigint;
update key_package set incarnation = coalesce((select incarnation from log_origin), 0);
alter table key_package alter column incarnation set not null;
comment on column key_package.incarnation is 'In which it was published. A one-time package of an earlier one may have been handed out in the span that a restore took.';
create index key_package_incarnation_idx on key_package (incarnation, account_id)
    where not last_resort and claimed_at is null and retired_at is null;

alter table stream add column asked_incarnation bigint not null default 0;
comment on column stream.asked_incarnation is 'In which its followers were asked last for what a restore may have taken.';
alter table replica add column asked_incarnation bigint not null default 0;
comment on column replica.asked_incarnation is 'In which its home was asked last to go on from our head.';
