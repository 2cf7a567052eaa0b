create extension if not exists postgis;
create table points (
    id    serial primary key,
    name  text,
    geom  geometry(Point, 4326) not null
);
