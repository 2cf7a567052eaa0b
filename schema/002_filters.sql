-- Indexes for the filters datetime and name, and the role that only reads.
--
-- What they cost: binary COPY of 50,000 rows at once into 600,000, on 2 busy
-- cores, median of three (noise ±20 %): 65,000 rows/s without these two, 54,000
-- with points_time, 62,000 with points_name, 42,000 with both. Without them a
-- question for old rows reads the whole table.

-- datetime means the time observed, else the time received.
create index points_time on points ((coalesce(observed_at, received_at)));

-- With the position, so that a name that millions have is a page like any
-- other. In "C", because an index in a locale's order breaks when the system's
-- locales change. A name has at most 255 characters (bus.MaxNameRunes), 1,020
-- bytes: an entry always fits a page of a B-tree, whose third is 2,704 bytes;
-- one that did not would be refused with 54000, which the projector tries again
-- for ever.
create index points_name on points (name collate "C", position) where name is not null;

-- Whoever may not make roles goes on without: the query service then reads as
-- whom its URL names, in sessions that are read-only.
do $$
begin
    begin
        create role cairn_reader nologin;
    exception
        when duplicate_object or unique_violation then null; -- roles are the whole cluster's
    end;
    execute format('grant usage on schema %I to cairn_reader', current_schema());
    grant select on points, checkpoint, parked to cairn_reader;
    grant cairn_reader to current_user;
exception
    when insufficient_privilege then
        raise notice 'no role cairn_reader: %', sqlerrm;
end
$$;

---- create above / drop below ----

drop index points_time, points_name;
