-- Points that change, in segments by position.
--
-- One table of all points slows down as it grows: its indexes outgrow memory and
-- are entered at random. So points are in segments, a table each, which hold a
-- range of positions: the head takes what is new, sealed ones are merged into
-- larger ones, and what each holds is known, so that a question skips most.
--
-- The old table becomes the first segment as it is; the projector reads what it
-- holds, and splits it, in the background. An old projector can no longer write
-- from here on: it says so and tries again until it is replaced.

-- Whoever waits for the locks makes everybody else wait: the migrator tries again.
set local lock_timeout = '3s';
-- In the order in which the projector takes them.
lock table checkpoint, points in access exclusive mode;

alter table checkpoint
    -- Raised with every change to the set of segments, or to what a reader may
    -- skip one by: box, times, cells, and a revision where there was none. A
    -- further revision, and the number of rows, change without it.
    add column catalogue bigint not null default 1,
    -- Positions below it were dropped (--keep).
    add column floor bigint not null default 0;

-- What each segment holds. The table of segment 7 is points_7.
create table segments (
    id           int primary key,
    -- Positions from low to below high.
    low          bigint not null,
    high         bigint not null,
    -- head: takes what is new. sealed: complete, but points in it may change or be
    -- deleted. dropped: not to be read, its table goes soon. filling: being made.
    state        text not null check (state in ('head', 'sealed', 'dropped', 'filling')),
    -- All of these are null while not known, as in the head: it must be visited.
    -- They are never narrower than the truth.
    rows         bigint,       -- that are not deleted
    revision     bigint,       -- the highest in it; 0: no row was ever changed
    west         double precision,
    south        double precision,
    east         double precision,
    north        double precision,
    time_from    timestamptz,  -- of coalesce(observed_at, received_at)
    time_to      timestamptz,
    received_to  timestamptz,  -- when the newest of its points was created
    -- A byte for each cell of 5° × 5°, 72 a row, from the south-west corner: 0 for no
    -- point, n for 2^(n-1) to 2^n - 1 points when it was sealed.
    cells        bytea,
    v7_from      uuid,         -- its ids of version 7; null: it has none
    v7_to        uuid,
    other_ids    bigint,       -- how many ids are of another version; null: not known
    dropped_at   timestamptz,
    -- Of one that is being made: it has all changes up to this revision.
    copied       bigint
);
-- No id is used again: a reader may still have an older list.
create sequence segment_ids as int start 3;
create unique index segments_head on segments (state) where state = 'head';

do $$
declare
    old   boolean := exists (select from points);
    head  int := case when old then 2 else 1 end;
    edge  bigint := 0;
    g     record;
begin
    if old then
        select ((greatest(sequence, (select max(position) from points) >> 12) + 1) << 12) into edge from checkpoint;
        alter table points rename to points_1;
        alter index points_pkey rename to points_1_pkey;
        alter index points_position_key rename to points_1_position_key;
        alter index points_geom rename to points_1_geom;
        alter index points_time rename to points_1_time;
        alter index points_name rename to points_1_name;
        alter table points_1 add column revision bigint, add column author text, alter column geom drop not null;
        insert into segments (id, low, high, state) values (1, 0, edge, 'sealed');
    else
        alter table points rename to points_old;
    end if;
    insert into segments (id, low, high, state) values (head, edge, 9223372036854775807, 'head');
    -- schema.Table and schema.HeadIndexes, as text.
    execute format('create table points_%1$s (
            id                  uuid,
            external_id         text,
            external_id_number  boolean,
            position            bigint not null,
            revision            bigint,
            name                text,
            geom                geometry(Point, 4326),
            altitude            double precision,
            observed_at         timestamptz,
            received_at         timestamptz not null,
            properties          jsonb,
            members             jsonb,
            author              text);
        alter table points_%1$s add constraint points_%1$s_pkey primary key (id);
        alter table points_%1$s add constraint points_%1$s_position_key unique (position);
        create index points_%1$s_geom on points_%1$s using gist (geom);
        create index points_%1$s_revision on points_%1$s (revision) where revision is not null', head);
    execute (select 'create view points as ' || string_agg(format('select id, external_id, external_id_number, position, revision, name, geom,
        altitude, observed_at, received_at, properties, members, author from points_%s where geom is not null', id), ' union all ' order by id) from segments);
    -- Whoever could read the points can read them and the catalogue.
    for g in select distinct coalesce(quote_ident(r.rolname), 'public') as who
        from pg_class c cross join aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee
        where c.oid = to_regclass(case when old then 'points_1' else 'points_old' end) and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
    loop
        execute format('grant select on points, segments, points_%s to %s', head, g.who);
    end loop;
    if not old then
        drop table points_old;
    end if;
end
$$;
