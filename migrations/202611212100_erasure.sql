-- Erasures: a home looks for the entry that took a content back when it has to do without it.

-- Few, and asked for by the messages before them.
create index entry_erased_idx on entry (stream_id, seq) where kind = 8;
