-- Prints docs/SCHEMA.md from the catalogue: one row of the result is one line of the page.

-- Partitions are made and dropped at run time; sqlx keeps its own table.
create temporary view shown as
select c.oid, c.relname::text as name, c.relkind, c.relpersistence, c.reloptions
from pg_class c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
  and c.relname <> '_sqlx_migrations';

create temporary view line (name, part, place, text) as
select '', 0, 0, E'# Schema\n\nGenerated from `migrations/` by `make schema`; not to be edited.'
union all
select name, 0, 0, format(E'\n## %s\n', name) from shown
union all
-- What the table is for, and what is unusual about it.
select name, 1, 0, concat_ws(E'\n',
    obj_description(oid, 'pg_class'),
    case when relkind = 'p' then 'Partitioned by ' || pg_get_partkeydef(oid) || '.' end,
    case when relpersistence = 'u' then 'Unlogged: a crash of the database empties it.' end,
    case when reloptions is not null then 'Options: ' || array_to_string(reloptions, ', ') || '.' end,
    '')
from shown
where obj_description(oid, 'pg_class') is not null or relkind = 'p' or relpersistence = 'u' or reloptions is not null
union all
select name, 2, 0, E'| column | type | | |\n| --- | --- | --- | --- |' from shown
union all
select s.name, 3, a.attnum,
    format('| `%s` | %s | %s | %s |', a.attname, format_type(a.atttypid, a.atttypmod),
        concat_ws(', ',
            case when a.attnotnull then 'not null' end,
            case when a.attidentity <> '' then 'identity' end,
            case when d.oid is not null then 'default ' || pg_get_expr(d.adbin, d.adrelid) end,
            case when a.attstorage = 'e' and t.typstorage <> 'e' then 'stored outside of the row, uncompressed' end),
        coalesce(col_description(s.oid, a.attnum), ''))
from shown s
join pg_attribute a on a.attrelid = s.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
left join pg_attrdef d on d.adrelid = s.oid and d.adnum = a.attnum
union all
select name, 4, 0, '' from shown
union all
select s.name, 5, row_number() over (partition by s.name order by k.contype <> 'p', k.conname)::int,
    format('- `%s`: %s', k.conname, pg_get_constraintdef(k.oid))
from shown s join pg_constraint k on k.conrelid = s.oid
where k.contype <> 'n'
union all
select s.name, 6, row_number() over (partition by s.name order by i.relname)::int,
    format('- `%s`: %sindex, %s', i.relname, case when x.indisunique then 'unique ' else '' end,
        regexp_replace(pg_get_indexdef(i.oid), '^.* USING ', ''))
from shown s
join pg_index x on x.indrelid = s.oid
join pg_class i on i.oid = x.indexrelid
where not exists (select 1 from pg_constraint k where k.conindid = i.oid and k.contype in ('p', 'u'))
union all
select '~', 0, 0, E'\n## Functions\n'
union all
select '~', 1, row_number() over (order by proname)::int,
    concat_ws(': ', format('- `%s(%s)`', proname, pg_get_function_identity_arguments(oid)), obj_description(oid, 'pg_proc'))
from pg_proc
where pronamespace = 'public'::regnamespace;

select text from line order by name, part, place;
