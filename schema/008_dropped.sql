-- Up to where the stream tells of points that retention dropped: a rebuild begins behind it.
set local lock_timeout = '3s';
lock table checkpoint in access exclusive mode;

alter table checkpoint
    -- The sequence that was applied when retention dropped something last. Events up to
    -- it may be of points that are gone, of which nothing is left to say so.
    add column dropped bigint not null default 0;
-- When that was is not known where it was before: at the latest now.
update checkpoint set dropped = sequence where floor > 0;

---- create above / drop below ----

alter table checkpoint drop column dropped;
