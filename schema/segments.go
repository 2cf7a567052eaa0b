package schema

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The states of a segment.
const (
	Head    = "head"    // takes what is new
	Sealed  = "sealed"  // complete, though points in it may change
	Dropped = "dropped" // not to be read; its table goes soon
	Filling = "filling" // being made; not to be read yet
)

// HeadEnd is what the head has as its high: no position comes near it.
const HeadEnd = math.MaxInt64

// Table is the name of a segment's table.
func Table(id int) string { return "points_" + strconv.Itoa(id) }

// CreateTable is the DDL of a segment's table, without an index: what is copied
// into it in bulk is indexed faster afterwards.
func CreateTable(id int) string {
	return "create table " + Table(id) + ` (
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
	author              text)`
}

// ChangedTable is the name of the table to which rows of a sealed segment move when
// they change. It inherits from the segment's own, so whoever reads that reads both.
func ChangedTable(id int) string { return Table(id) + "_changed" }

// CreateChangedTable makes it, with the indexes of a head and that over names: one
// over times comes when it has grown.
func CreateChangedTable(id int) []string {
	t := ChangedTable(id)
	ddl := append([]string{"create table " + t + " () inherits (" + Table(id) + ")"}, headIndexes(t)...)
	return append(ddl, trackIndex(t))
}

// ChangedTimeIndex is the name of the index that it gets when it has grown, and its
// DDL.
func ChangedTimeIndex(id int) (name, ddl string) {
	return ChangedTable(id) + "_time", timeIndex(ChangedTable(id))
}

// DropTable drops the table of a segment, with that of its changed rows.
func DropTable(id int) string {
	return "drop table if exists " + ChangedTable(id) + ", " + Table(id)
}

// HeadIndexes are those that a segment has while points are added to it.
func HeadIndexes(id int) []string { return headIndexes(Table(id)) }

func headIndexes(t string) []string {
	return []string{
		"alter table " + t + " add constraint " + t + "_pkey primary key (id)",
		"alter table " + t + " add constraint " + t + "_position_key unique (position)",
		"create index " + t + "_geom on " + t + " using gist (geom)",
		"create index " + t + "_revision on " + t + " (revision) where revision is not null",
	}
}

// SealedIndexes are what it gets besides when it is sealed: built in bulk they
// cost a fraction of what they would cost the head.
func SealedIndexes(id int) []string { return sealedIndexes(Table(id)) }

func sealedIndexes(t string) []string {
	return []string{
		timeIndex(t),
		`create index if not exists ` + t + `_name on ` + t + ` (name collate "C", position) where name is not null`,
		trackIndex(t),
	}
}

func timeIndex(t string) string {
	return "create index if not exists " + t + "_time on " + t + " ((coalesce(observed_at, received_at)))"
}

// TrackIndex finds what one name has in the order of time, the newest too.
func TrackIndex(id int) string { return trackIndex(Table(id)) }

func trackIndex(t string) string {
	return `create index if not exists ` + t + `_track on ` + t + ` (name collate "C", (coalesce(observed_at, received_at)), position) where name is not null`
}

// GrantLike gives those who may read the catalogue the right to read a segment.
func GrantLike(id int) string {
	return `do $$
declare g record;
begin
	for g in select distinct coalesce(quote_ident(r.rolname), 'public') as who
		from pg_class c cross join aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee
		where c.oid = 'segments'::regclass and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
	loop
		execute 'grant select on ` + Table(id) + ` to ' || g.who;
	end loop;
end
$$`
}

// View is the DDL of the view points: all points that are not deleted, for people
// with psql. Cairn itself reads the segments.
func View(ids []int) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = "select " + List("", Columns) + " from " + Table(id) + " where geom is not null"
	}
	return "create or replace view points as " + strings.Join(parts, " union all ")
}

// A Segment is one row of the catalogue. What is nil is not known.
type Segment struct {
	ID         int
	Low, High  int64
	State      string
	Rows       *int64
	Revision   *int64
	West       *float64
	South      *float64
	East       *float64
	North      *float64
	TimeFrom   *time.Time
	TimeTo     *time.Time
	ReceivedTo *time.Time
	Cells      []byte
	V7From     *[16]byte
	V7To       *[16]byte
	OtherIDs   *int64
	DroppedAt  *time.Time
	Copied     *int64
	LatestDone bool    // all of it was looked through for the table latest
	LatestName *string // else: up to this name it was
	Zones      []byte  // the span of times of each; nil: not known
	Density    Density // nil: not known
}

// Known reports whether the catalogue knows what the segment holds.
func (s *Segment) Known() bool { return s.OtherIDs != nil }

const segmentsSelect = `select id, low, high, state, rows, revision, west, south, east, north, time_from, time_to, received_to,
	cells, v7_from, v7_to, other_ids, dropped_at, copied, latest_done, latest_name, zones, density from segments order by low, id`

// A Querier is a connection, a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Segments reads the catalogue, the oldest positions first.
func Segments(ctx context.Context, db Querier) ([]Segment, error) {
	rows, err := db.Query(ctx, segmentsSelect)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue of segments: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Segment])
	if err != nil {
		return nil, fmt.Errorf("read the catalogue of segments: %w", err)
	}
	return all, nil
}
