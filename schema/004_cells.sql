-- Where the points of a sealed segment are, for map tiles that show much of the world:
-- counted once, when it was sealed or merged, so that no reader has to.
create table segment_cells (
    segment    int primary key, -- segments.id; a row may outlive it for a moment
    -- What the counts have: all changes up to this revision, or more.
    revision   bigint not null,
    counted_at timestamptz not null default now(),
    -- A cell is 2^coarse wide, on a grid over Web Mercator that is 2^14 wide.
    coarse     int not null,
    -- For each cell that has points, its column and row from the north-west, and how
    -- many: three int4.
    cells      bytea not null
);

-- Whoever can read the catalogue can read this.
do $$
declare
    g record;
begin
    for g in select distinct coalesce(quote_ident(r.rolname), 'public') as who
        from pg_class c cross join aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee
        where c.oid = 'segments'::regclass and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
    loop
        execute 'grant select on segment_cells to ' || g.who;
    end loop;
end
$$;
