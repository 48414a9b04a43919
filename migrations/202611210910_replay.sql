-- Replay memory of service and device tokens, shared by all replicas. Unlogged: no request pays a durable commit for its
-- authentication. A crash of the database empties it, which replay_since then shows.

create table replay (
    key bytea not null,
    exp_s bigint not null,
    constraint replay_pkey primary key (key, exp_s),
    constraint replay_key_check check (octet_length(key) = 16)
) partition by range (exp_s);
comment on table replay is 'One row per token seen. key: 16 bytes of a hash of (issuer, jti). Partitions of two hours of exp, dropped whole.';

create unlogged table replay_since (
    id boolean not null default true,
    since_s bigint not null,
    constraint replay_since_pkey primary key (id),
    constraint replay_since_id_check check (id)
);
comment on table replay_since is 'One row: tokens issued before this Unix second may have been seen and forgotten. The row goes with a crash, and the next writer sets it anew; so zero, from this migration, means that nothing was ever forgotten.';
insert into replay_since (since_s) values (0);

create function replay_rotate(now_s bigint, keep_s bigint) returns void
language plpgsql set lock_timeout = '1s' as $$
declare
    width constant bigint := 7200;
    start_s bigint;
    partition text;
begin
    perform pg_advisory_xact_lock(hashtext('replay_rotate'));
    for start_s in select generate_series((now_s - keep_s) / width * width, (now_s / width + 2) * width, width) loop
        partition := 'replay_' || start_s;
        if to_regclass(partition) is null then
            execute format('create unlogged table %I (like replay including all)', partition);
            execute format('alter table replay attach partition %I for values from (%s) to (%s)',
                partition, start_s, start_s + width);
        end if;
    end loop;
    for partition in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'replay'::regclass and substr(c.relname, 8)::bigint + width + keep_s < now_s
    loop
        execute format('drop table %I', partition);
    end loop;
end
$$;
comment on function replay_rotate is
    'Makes the partitions from keep_s ago to at least four hours ahead, and drops those whose last token ran out before. Replicas call it at any time. Attaching does not hold up writers; dropping does, for an instant.';
