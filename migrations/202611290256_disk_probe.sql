create table disk_probe (
    filler bytea not null
);
comment on table disk_probe is 'Empty: written to and emptied to see whether the disk has room again.';
alter table disk_probe alter column filler set storage external;
