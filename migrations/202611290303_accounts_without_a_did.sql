-- Since when the account's DID is definitely gone (a tombstone, or a document that was deleted), as far as this server saw.
alter table account add column did_gone_at timestamptz;
comment on column account.did_gone_at is
    'When this server first saw that the DID has no document any more; null while it has one. A day later its devices are refused.';
