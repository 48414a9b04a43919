-- One address may not have all the places in which new devices wait.
alter table pairing add column address text;
comment on column pairing.address is 'Keyed hash of the address that made it: one address has few open at a time. Null in rows of an older version.';
create index pairing_address_idx on pairing (address);
