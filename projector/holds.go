package projector

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"cairn/event"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// holds is what a segment holds, as the catalogue tells it.
type holds struct {
	rows                     *int64 // nil: not known
	revision                 int64
	west, south, east, north *float64
	timeFrom, timeTo         *time.Time
	receivedTo               *time.Time // of those that were never changed, if there are any
	v7From, v7To             *string
	otherIDs                 int64
	counts                   [cellRows * cellColumns]int64 // points by cell
	zones                    []byte                        // nil: not known
	density                  schema.Density                // nil: not known
}

// cellSQL is cellOf in SQL.
const cellSQL = `least(35, greatest(0, floor((st_y(geom) + 90) / 5)::int)) * 72 + least(71, greatest(0, floor((st_x(geom) + 180) / 5)::int))`

// holdsSelect reads what rows hold, by cell, in one pass; tombstones are in the first
// cell, of which they are no points. Of ids of version 7 it takes the time, their
// first 48 bits: Postgres has no least uuid before version 18, and as text they would
// cost more than everything else.
const holdsSelect = `select ` + cellSQL + `, count(*), count(geom), coalesce(max(revision), 0),
		min(st_x(geom)), min(st_y(geom)), max(st_x(geom)), max(st_y(geom)),
		min(coalesce(observed_at, received_at)) filter (where geom is not null),
		max(coalesce(observed_at, received_at)) filter (where geom is not null),
		max(received_at) filter (where revision is null), max(received_at),
		min(ms) filter (where version = 7), max(ms) filter (where version = 7), count(*) filter (where version <> 7)
	from (select *, get_byte(b, 6) >> 4 as version, (get_byte(b, 0)::bigint << 40) + (get_byte(b, 1)::bigint << 32) + (get_byte(b, 2)::bigint << 24)
			+ (get_byte(b, 3) << 16) + (get_byte(b, 4) << 8) + get_byte(b, 5) as ms
		from (select *, uuid_send(id) as b from %s t offset 0) t) s
	group by 1`

// lookInto reads what the rows of a table, or of a query in brackets, hold.
func lookInto(ctx context.Context, db pgx.Tx, from string) (*holds, error) {
	rows, err := db.Query(ctx, fmt.Sprintf(holdsSelect, from))
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", from, err)
	}
	all := &holds{rows: new(int64)}
	var v7From, v7To *int64
	var h holds // of one cell
	var cell int
	var n, points, others int64
	var low, high *int64
	var received, changed *time.Time // of rows as they came in, and of all
	into := []any{&cell, &n, &points, &h.revision, &h.west, &h.south, &h.east, &h.north, &h.timeFrom, &h.timeTo, &h.receivedTo, &received, &low, &high, &others}
	_, err = pgx.ForEachRow(rows, into, func() error {
		all.add(&h)
		*all.rows += points
		all.otherIDs += others
		v7From, v7To = least(v7From, low), most(v7To, high)
		all.receivedTo, changed = later(all.receivedTo, h.receivedTo), later(changed, received)
		all.counts[cell] = points
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", from, err)
	}
	if all.receivedTo == nil {
		all.receivedTo = changed
	}
	if v7From != nil {
		all.v7From, all.v7To = v7At(*v7From, 0x00), v7At(*v7To, 0xff)
	}
	return all, nil
}

// widenZones makes the zones of a segment span the times of the rows of a table, or of a
// query in brackets.
func widenZones(ctx context.Context, db pgx.Tx, s *schema.Segment, from string) error {
	n := len(s.Zones) / schema.ZoneBytes
	rows, err := db.Query(ctx, fmt.Sprintf(`select least((position - %d) / %d, %d)::int, min(coalesce(observed_at, received_at)), max(coalesce(observed_at, received_at))
		from %s s where geom is not null group by 1`, s.Low, schema.ZoneWidth(s.Low, s.High, n), n-1, from))
	if err != nil {
		return fmt.Errorf("look into the zones of %s: %w", from, err)
	}
	var zone int
	var first, last time.Time
	_, err = pgx.ForEachRow(rows, []any{&zone, &first, &last}, func() error {
		schema.WidenZone(s.Zones, zone, first)
		schema.WidenZone(s.Zones, zone, last)
		return nil
	})
	if err != nil {
		return fmt.Errorf("look into the zones of %s: %w", from, err)
	}
	return nil
}

// densityRows is how many rows of a table are counted for its density, on pages all
// over it.
const densityRows = 400_000

// lookDensity counts how the points of a table lie, by some of its pages.
func lookDensity(ctx context.Context, db pgx.Tx, table string, points int64) (schema.Density, error) {
	part := min(1, densityRows/max(1, float64(points)))
	rows, err := db.Query(ctx, fmt.Sprintf(`select `+schema.DensityCell+`, count(*) from %s tablesample system (%.4f) repeatable (1) where geom is not null group by 1`, table, 100*part))
	if err != nil {
		return nil, fmt.Errorf("look how the points of %s lie: %w", table, err)
	}
	counts := map[int]float64{}
	var cell int
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&cell, &n}, func() error { counts[cell] = float64(n) / part; return nil })
	if err != nil {
		return nil, fmt.Errorf("look how the points of %s lie: %w", table, err)
	}
	return schema.PackDensity(counts), nil
}

// later is the later of two times, where nil is none.
func later(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// v7At is an id that begins with the milliseconds, and continues with the same byte.
func v7At(milliseconds int64, rest byte) *string {
	id := uuid.UUID(bytes.Repeat([]byte{rest}, 16))
	copy(id[:6], binary.BigEndian.AppendUint64(nil, uint64(milliseconds))[2:]) //nolint:gosec // 48 bits
	text := id.String()
	return &text
}

// add widens what is held by more: of changes, whose points were counted before.
func (h *holds) add(more *holds) {
	h.revision = max(h.revision, more.revision)
	h.west, h.south = least(h.west, more.west), least(h.south, more.south)
	h.east, h.north = most(h.east, more.east), most(h.north, more.north)
	if h.timeFrom == nil || more.timeFrom != nil && more.timeFrom.Before(*h.timeFrom) {
		h.timeFrom = more.timeFrom
	}
	if h.timeTo == nil || more.timeTo != nil && more.timeTo.After(*h.timeTo) {
		h.timeTo = more.timeTo
	}
	for i, n := range more.counts {
		h.counts[i] += n
	}
}

func least[T cmp.Ordered](a, b *T) *T {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

func most[T cmp.Ordered](a, b *T) *T {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}

// cells is what the catalogue keeps of the counts: their magnitudes.
func (h *holds) cells() []byte {
	out := make([]byte, len(h.counts))
	for i, n := range h.counts {
		out[i] = byte(bits.Len64(uint64(n))) //nolint:gosec // a count; its length is at most 64
	}
	return out
}

// write puts it into the catalogue.
func (h *holds) write(ctx context.Context, tx pgx.Tx, id int, state string) error {
	_, err := tx.Exec(ctx, `update segments set state = $2, rows = $3, revision = $4, west = $5, south = $6, east = $7, north = $8,
			time_from = $9, time_to = $10, received_to = $11, cells = $12, v7_from = $13::text::uuid, v7_to = $14::text::uuid, other_ids = $15, zones = $16, density = $17, copied = null
		where id = $1 and state in ('filling', 'sealed')`, id, state, h.rows, h.revision, h.west, h.south, h.east, h.north, h.timeFrom, h.timeTo, h.receivedTo,
		h.cells(), h.v7From, h.v7To, h.otherIDs, h.zones, []byte(h.density))
	if err != nil {
		return fmt.Errorf("note what segment %d holds: %w", id, err)
	}
	return nil
}

// snapshot runs do in a transaction that sees one state of the database, and
// returns the last position that is in it.
func (m *maintenance) snapshot(ctx context.Context, do func(pgx.Tx) error) (seen int64, err error) {
	err = pgx.BeginTxFunc(ctx, m.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		var sequence int64
		if err := tx.QueryRow(ctx, `select sequence from checkpoint`).Scan(&sequence); err != nil {
			return fmt.Errorf("read the checkpoint: %w", err)
		}
		seen = int64(event.EndOf(uint64(sequence))) //nolint:gosec // a sequence
		return do(tx)
	})
	return seen, err
}

// recountRows is the size up to which the rows of a segment that changed while it
// was looked into are counted again while batches wait: 10 ms.
const recountRows = 200_000

// seal builds the indexes that the head does not have, and finds out what the
// segment holds.
func (m *maintenance) seal(ctx context.Context, all []schema.Segment) (bool, error) {
	for _, s := range all {
		if s.State != schema.Sealed || s.Known() {
			continue
		}
		begun := time.Now()
		if err := m.ensureRevisionIndex(ctx, s.ID); err != nil {
			return false, err
		}
		for _, ddl := range schema.SealedIndexes(s.ID) {
			if _, err := m.conn.Exec(ctx, ddl); err != nil {
				return false, fmt.Errorf("index segment %d: %w", s.ID, err)
			}
		}
		// Its pages become all-visible at once, and the planner gets its statistics, except
		// those of documents, which are a quarter of the work and which no plan depends on.
		for _, sql := range []string{`alter table %s alter properties set statistics 0, alter members set statistics 0`, `vacuum (analyze, truncate false) %s`} {
			if _, err := m.conn.Exec(ctx, fmt.Sprintf(sql, schema.Table(s.ID))); err != nil {
				return false, fmt.Errorf("analyze segment %d: %w", s.ID, err)
			}
		}
		if err := m.describe(ctx, s.ID); err != nil {
			return false, err
		}
		m.metrics.seconds.WithLabelValues("seal").Observe(time.Since(begun).Seconds())
		m.log.Debug("sealed a segment", "segment", s.ID, "seconds", time.Since(begun).Seconds())
		return true, nil
	}
	return false, nil
}

// ensureRevisionIndex makes the index that a table from before segments does not have.
func (m *maintenance) ensureRevisionIndex(ctx context.Context, id int) error {
	name := schema.Table(id) + "_revision"
	return m.ensureIndex(ctx, name, "create index "+name+" on "+schema.Table(id)+" (revision) where revision is not null")
}

// ensureIndex makes, without a lock, an index that a table of an earlier version does
// not have.
func (m *maintenance) ensureIndex(ctx context.Context, name, ddl string) error {
	var valid *bool
	err := m.conn.QueryRow(ctx, `select (select indisvalid from pg_index where indexrelid = to_regclass($1))`, name).Scan(&valid)
	if err != nil {
		return fmt.Errorf("look for the index %s: %w", name, err)
	}
	if valid != nil && *valid {
		return nil
	}
	// One that was not finished is not valid.
	return execAll(ctx, m.conn, []string{"drop index if exists " + name, strings.Replace(ddl, "create index", "create index concurrently", 1)})
}

// describe notes what a segment holds. It looks without a lock; what was changed
// meanwhile is added under it.
func (m *maintenance) describe(ctx context.Context, id int) error {
	table := schema.Table(id)
	var h *holds
	seen, err := m.snapshot(ctx, func(tx pgx.Tx) (err error) {
		h, err = lookInto(ctx, tx, table)
		return err
	})
	if err != nil {
		return err
	}
	return m.change(ctx, func(tx pgx.Tx, sequence uint64) error {
		if int64(event.EndOf(sequence)) > seen {
			changes, err := lookInto(ctx, tx, fmt.Sprintf(`(select * from %s where revision > %d)`, table, seen))
			if err != nil {
				return err
			}
			if changes.revision > 0 {
				h.add(changes)
				h.rows = nil
				if changed := h.points(); changed <= recountRows {
					h.rows = new(int64)
					if err := tx.QueryRow(ctx, `select count(*) from `+table+` where geom is not null`).Scan(h.rows); err != nil {
						return fmt.Errorf("count segment %d: %w", id, err)
					}
				}
			}
		}
		return h.write(ctx, tx, id, schema.Sealed)
	})
}

// points is how many points were counted.
func (h *holds) points() (n int64) {
	for _, c := range h.counts {
		n += c
	}
	return n
}
