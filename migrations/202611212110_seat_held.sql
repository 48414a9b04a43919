alter table seat add column held boolean not null default false;
comment on column seat.held is 'Its account has not said yes: to it, the seat is not there. Alone of all columns it does not follow from the entries.';
drop index seat_account_id_idx;
create index seat_account_id_idx on seat (account_id, stream_id) include (from_seq, until_seq, role, held);
update seat s set held = true
from stream t
where t.id = s.stream_id and s.until_seq is null and exists (
    select 1 from invitation i where i.account_id = s.account_id and i.stream = t.public_id and i.state in (1, 4)
);

alter table invitation add column from_seq bigint not null default 0;
comment on column invitation.from_seq is 'The entry that added the devices which it is for.';
