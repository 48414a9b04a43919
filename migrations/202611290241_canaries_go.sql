-- Instances no longer append canary entries: nothing looks for their streams.
drop index stream_canary_idx;
