-- How the times of a merged segment follow its positions: a question for a month goes
-- straight to where it is, instead of past everything newer or through all years of a
-- place.
set local lock_timeout = '3s';
lock table checkpoint, segments in access exclusive mode;

alter table segments
    -- The least and the greatest time of each zone, of schema.ZoneBytes; null: not
    -- known. Like all else of what is held, never narrower than the truth.
    add column zones bytea,
    -- How its points lie, on a finer grid than cells, of schema.PackDensity: what a
    -- search in a box will cost. It is only an estimate, and nobody skips by it.
    add column density bytea;

---- create above / drop below ----

alter table segments drop column zones, drop column density;
