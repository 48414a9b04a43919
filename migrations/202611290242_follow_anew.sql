-- A stream that stopped starts again: after a back-off, after a silence of its home, and at the latest after a week.

alter table replica add column stops smallint not null default 0;
comment on column replica.stops is 'How often in a row the home was asked to follow anew because its requests did not hold together: the pause doubles with each.';
alter table replica add column followed_at timestamptz not null default now();
comment on column replica.followed_at is 'When the home last took this server as a follower: a week later the home is asked again, so that no home forgets a follower for good.';
comment on column replica.stopped_by is 'The name of the third such failure: the follower takes nothing more until it has followed anew, which it does by itself after a pause.';
create index replica_followed_at_idx on replica (followed_at) where ended_at is null;
update replica set follow_due_at = now() where stopped_by is not null and ended_at is null;
