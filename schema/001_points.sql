-- Points as they are now. Written by the projector only.
create extension if not exists postgis;

create table points (
    id                  uuid primary key,
    -- The id as the client gave it, where that is not the key's own text.
    external_id         text,
    -- Whether the client gave it as a JSON number; null means no.
    external_id_number  boolean,
    -- stream sequence << 12 | index in the envelope
    position            bigint not null unique,
    name                text,
    geom                geometry(Point, 4326) not null,
    -- metres
    altitude            double precision,
    observed_at         timestamptz,
    received_at         timestamptz not null,
    -- exactly what came in; null for GeoJSON's null
    properties          jsonb,
    -- foreign members of the Feature (RFC 7946, section 6.1)
    members             jsonb
);
create index points_geom on points using gist (geom);

-- How far the projection has come: one row, changed in the same transaction as
-- the rows it speaks of. It, not the consumer's acknowledgements, is the truth.
create table checkpoint (
    id              boolean primary key default true check (id),
    -- When the stream was created; null until the first is.
    stream_created  timestamptz,
    -- The last message applied, and its id.
    sequence        bigint not null default 0,
    message_id      text not null default '',
    updated_at      timestamptz not null default now()
);
insert into checkpoint default values;

-- What could not become a row, with the reason. An event is bytes here, because
-- what Postgres refuses as text or jsonb must still be kept.
create table parked (
    position           bigint primary key,
    point_id           uuid,
    reason             text not null,  -- conflict, refused or unreadable
    detail             text not null,
    event              bytea not null,
    parked_at          timestamptz not null default now(),
    -- Set when it was published again, with the position that it got then.
    resolved_at        timestamptz,
    resolved_position  bigint
);

-- Who needs the stream from a sequence on, and until when at most: a rebuild or
-- a backup. Trimming stops there.
create table trim_hold (
    name      text primary key,
    sequence  bigint not null,
    until     timestamptz not null
);

---- create above / drop below ----

drop table trim_hold, parked, checkpoint, points;
