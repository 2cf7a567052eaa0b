package projector

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A compared is a row that is staged, what the database has of its id, or both. The
// pointers are null where there is none.
type compared struct {
	position *int64
	staged   *string // where the staged row lies
	number   *int    // of its content
	same     bool    // what the database has says the same
	stored   storedRow
}

// A storedRow is what the database has of an id.
type storedRow struct {
	segment  *int
	moved    *bool
	tid      *string
	id       pgtype.UUID // a *[16]byte would be scanned by way of its text
	position *int64
	revision *int64
	deleted  *bool
	at       *time.Time
	name     *string
}

// compare reads what is staged over the connection, and beside each row what the
// database has of its id. repeated says that an id is staged more than once. Contents have numbers: rows of one id with the same number say
// the same.
func (c *catalogue) compare(ctx context.Context, conn *pgx.Conn, ids []uuid.UUID, repeated bool, take func(*compared)) error {
	holdings, err := c.lookUp(ctx, conn, slices.Clone(ids), true)
	if err != nil {
		return err
	}
	if head := c.inHead(ids); len(head) > 0 {
		holdings = append(holdings, holding{segment: c.head.ID, ids: head})
	}
	sql, args := c.comparison(holdings, repeated)
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("compare with what is there: %w", err)
	}
	var r compared
	s := &r.stored
	into := []any{&r.position, &r.staged, &r.number, &r.same, &s.segment, &s.moved, &s.tid, &s.id, &s.position, &s.revision, &s.deleted, &s.at, &s.name}
	if _, err = pgx.ForEachRow(rows, into, func() error { take(&r); return nil }); err != nil {
		return fmt.Errorf("compare with what is there: %w", err)
	}
	return nil
}

// ids are those of the batch's rows, each once, by their first row.
func (b *batch) ids() []uuid.UUID {
	ids, seen := make([]uuid.UUID, 0, len(b.rows)), make(map[uuid.UUID]struct{}, len(b.rows))
	for i := range b.rows {
		id := b.rows[i].id
		if _, ok := seen[id]; !ok {
			seen[id] = struct{}{}
			ids = append(ids, id)
		}
	}
	return ids
}

// comparison selects what is staged, and beside each row what the database has of its
// id. Contents of staged rows have to be compared with each other only where an id is
// staged more than once: that sorts all of them.
func (c *catalogue) comparison(holdings []holding, repeated bool) (sql string, args []any) {
	content, number := schema.List("", schema.Content), "1"
	if repeated {
		number = "dense_rank() over (partition by id order by " + content + ")"
	}
	parts := []string{`select null::int as segment, null::bool as moved, null as tid, null::bigint as revision, null::timestamptz as at, * from (select id, position, name, ` + content + ` from staged limit 0) none`}
	for _, h := range holdings {
		args = append(args, parameter(h.ids))
		moved := "false"
		if c.parted[h.segment] {
			moved = fmt.Sprintf("tableoid <> '%s'::regclass", schema.Table(h.segment))
		}
		parts = append(parts, fmt.Sprintf(`select %d, %s, ctid::text, revision, coalesce(observed_at, received_at), id, position, name, %s from %s where id = any($%d::uuid[])`,
			h.segment, moved, content, schema.Table(h.segment), len(args)))
	}
	return `select s.position, s.tid, s.number, (` + schema.List("s.", schema.Content) + `) is not distinct from (` + schema.List("p.", schema.Content) + `) and s.id is not null and p.id is not null,
			p.segment, p.moved, p.tid, p.id, p.position, p.revision, p.geom is null, p.at, p.name
		from (select id, position, ctid::text as tid, ` + number + ` as number, ` + content + ` from staged) s
		full join (` + strings.Join(parts, " union all ") + `) p on p.id = s.id`, args
}
