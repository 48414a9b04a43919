-- A device may sign with more than one key, and its leaf in one conversation with any of them.

alter table leaf_key drop constraint leaf_key_pkey;
alter table leaf_key add constraint leaf_key_pkey primary key (stream_id, device_id, public_key);

-- A home that shows one contradiction again and again, each time under a newly signed checkpoint, adds no evidence.
delete from evidence e using evidence earlier
where earlier.stream_id = e.stream_id and earlier.kind = e.kind and earlier.seq = e.seq and earlier.id < e.id
  and not exists (select 1 from evidence_report r where r.evidence_id = e.id);
delete from evidence_report r using evidence e, evidence earlier
where r.evidence_id = e.id and earlier.stream_id = e.stream_id and earlier.kind = e.kind and earlier.seq = e.seq
  and earlier.id < e.id;
delete from evidence e using evidence earlier
where earlier.stream_id = e.stream_id and earlier.kind = e.kind and earlier.seq = e.seq and earlier.id < e.id;
create unique index evidence_stream_id_kind_seq_key on evidence (stream_id, kind, seq);

-- The conversation that an invitation shows is composed from the log when the delivery goes out: not kept with each.
update delivery set body = body - 'view' where body ? 'view';
