-- An operator accepts that a home went back: what the home took back is kept as evidence, and the stream goes on.

alter table evidence drop constraint evidence_kind_check;
alter table evidence add constraint evidence_kind_check check (kind in (1, 2, 3, 4));
comment on column evidence.kind is '1 two headers for one number; 2 a proof of fork; 3 a rewind: a checkpoint beyond the base of a restore; 4 headers that the operator gave up after a rewind, with the home''s checkpoint for the last.';
