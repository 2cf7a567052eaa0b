-- The newest point of each name, by the time observed: what GET /latest reads. A
-- device with a long history is one row here.
--
-- The projector keeps it in the transactions of its batches. What points there were
-- before is gathered in the background, a segment after the other; until then
-- readers are told to wait.
set local lock_timeout = '3s';
lock table checkpoint, segments in access exclusive mode;

-- Up to which sequence the table latest is true. It is behind checkpoint.sequence
-- only while full batches follow one another.
alter table checkpoint add column latest bigint not null default 0;
update checkpoint set latest = sequence;

alter table segments
    -- What was in the segment before the projector kept the table latest is in it.
    add column latest_done boolean not null default true,
    -- Else: the names up to this one are.
    add column latest_name text;

create table latest (
    id                  uuid not null,
    external_id         text,
    external_id_number  boolean,
    position            bigint not null,
    revision            bigint,
    -- In "C", as the order of pages.
    name                text collate "C" primary key,
    geom                geometry(Point, 4326),  -- null: the name's last point was deleted
    altitude            double precision,
    observed_at         timestamptz,
    received_at         timestamptz not null,
    properties          jsonb,
    members             jsonb,
    author              text,
    -- The position of the event by which this became the newest, or was changed.
    since               bigint not null
) with (fillfactor = 70); -- the name is the only indexed column: updates stay on their page

do $$
declare
    s      record;
    g      record;
    filled boolean;
begin
    for s in select id from segments where state in ('head', 'sealed') loop
        execute format('select exists (select from points_%s)', s.id) into filled;
        if filled then
            update segments set latest_done = false where id = s.id;
        end if;
    end loop;
    for g in select distinct coalesce(quote_ident(r.rolname), 'public') as who
        from pg_class c cross join aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee
        where c.oid = to_regclass('segments') and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
    loop
        execute format('grant select on latest to %s', g.who);
    end loop;
end
$$;
