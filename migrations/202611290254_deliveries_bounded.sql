-- What one account can make this server tell others is bounded, and a home waits for one word of a moved account at most.

alter table delivery add column sender_id bigint constraint delivery_sender_id_fkey references account (id);
comment on column delivery.sender_id is 'The account of this server whose call caused the delivery, by which it is counted; null where an entry or another server did.';
create index delivery_sender_id_idx on delivery (sender_id) where sender_id is not null;

delete from delivery d using delivery later
where d.kind = 'moveSeats' and d.state = 'waiting' and later.kind = 'moveSeats' and later.state = 'waiting'
  and later.account = d.account and later.peer = d.peer and later.id > d.id;
create unique index delivery_move_seats_key on delivery (account, peer) where kind = 'moveSeats' and state = 'waiting';

create index invitation_created_at_idx on invitation (created_at) where state in (2, 3, 4);
