-- Strangers of this server share a cap for each account whose key packages they claim.
drop index key_package_claim_target_idx;
create index key_package_claim_target_idx on key_package_claim (target_id, created_at) where one_time;
comment on column key_package_claim.outside is 'The claimer is no contact of the target, or comes from a server that was not allowed by name.';
-- Claims have stored references since: what was stored before cannot be read.
delete from answer where method = 'blue.catbird.mls.claimKeyPackages';
