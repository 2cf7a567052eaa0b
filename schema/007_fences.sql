-- Areas, of which it is told who enters and leaves them, and whom to tell.
set local lock_timeout = '3s';
lock table checkpoint, segments in access exclusive mode;

alter table checkpoint
    -- Raised with each change of a fence or a hook, so that whoever holds the row for a
    -- batch knows whether its list is the list.
    add column fences bigint not null default 0,
    -- Crossings at positions below it were let go of.
    add column fence_floor bigint not null default 0;

create table fences (
    id          text collate "C" primary key,
    revision    bigint not null,  -- checkpoint.fences, as of its last change
    vertices    int not null,
    definition  text not null,    -- a GeoJSON Feature
    updated_at  timestamptz not null default now()
);

-- Who entered or left which area, written in the transaction of the batch that did it.
create table fence_events (
    position     bigint not null,    -- of the event that did it
    n            smallint not null,  -- counts those of one position
    fence        text collate "C" not null,
    name         text not null,
    entered      boolean not null,
    cause        text not null,      -- created, put or deleted
    at           timestamptz not null,
    recorded_at  timestamptz not null default now(),
    point        text,               -- the newest point's id, as JSON; null: there is none
    longitude    double precision,
    latitude     double precision,
    primary key (position, n)
);
create index fence_events_fence on fence_events (fence, position);

create table hooks (
    id            text collate "C" primary key,
    revision      bigint not null,
    definition    text not null,     -- a JSON object, without the secret
    -- What was taken for it of fence_events: all up to here.
    position      bigint not null,
    n             smallint not null default 32767,
    gone          boolean not null default false,  -- it answered 410
    delivered     bigint not null default 0,
    failed        bigint not null default 0,
    delivered_at  timestamptz,
    failed_at     timestamptz,
    error         text,              -- of the last attempt that failed
    updated_at    timestamptz not null default now()
);

-- Apart, so that whoever reads the rest need not be able to read this.
create table hook_secrets (
    hook    text collate "C" primary key references hooks on delete cascade,
    secret  text not null
);

-- What a hook did not take at the first attempt.
create table hook_retries (
    hook         text collate "C" not null references hooks on delete cascade,
    position     bigint not null,
    n            smallint not null,
    name         text not null,
    body         text not null,
    attempts     int not null,
    error        text not null,
    recorded_at  timestamptz not null,  -- of the crossing
    next_at      timestamptz,           -- null: it was given up
    primary key (hook, position, n)
);
create index hook_retries_next on hook_retries (hook, next_at);

-- Whoever can read the catalogue can read these, but for the secrets.
do $$
declare
    g record;
begin
    for g in select distinct coalesce(quote_ident(r.rolname), 'public') as who
        from pg_class c cross join aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee
        where c.oid = 'segments'::regclass and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
    loop
        execute 'grant select on fences, fence_events, hooks, hook_retries to ' || g.who;
    end loop;
end
$$;

---- create above / drop below ----

drop table hook_retries, hook_secrets, hooks, fence_events, fences;
alter table checkpoint drop column fences, drop column fence_floor;
