package projector

import (
	"context"
	"fmt"

	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// readPlaces reads where the points are that an event asks to be in an area, before
// the batch. Few batches have such events.
func (w *writer) readPlaces(ctx context.Context, b *batch, v *verdict) error {
	ids := map[int][]uuid.UUID{} // by segment
	for i := range b.rows {
		r := &b.rows[i]
		if p := v.points[r.id]; r.need.Area() != nil && p.there && !p.deleted {
			ids[p.segment] = append(ids[p.segment], r.id)
		}
	}
	for segment, list := range ids {
		rows, err := w.conn.Query(ctx, `select id, ST_X(geom), ST_Y(geom) from `+schema.Table(segment)+` where id = any($1::uuid[]) and geom is not null`, parameter(list))
		if err != nil {
			return fmt.Errorf("read where points are: %w", err)
		}
		var id uuid.UUID
		var x, y float64
		_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id), &x, &y}, func() error {
			v.points[id].where = [2]float64{x, y}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read where points are: %w", err)
		}
	}
	return nil
}
