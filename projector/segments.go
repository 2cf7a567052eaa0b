package projector

import (
	"context"
	"fmt"

	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

// headTable is the name of the table that takes what is new.
func headTable(ctx context.Context, conn *pgx.Conn) (string, error) {
	var id int
	if err := conn.QueryRow(ctx, `select id from segments where state = 'head'`).Scan(&id); err != nil {
		return "", fmt.Errorf("look for the head among the segments: %w", err)
	}
	return schema.Table(id), nil
}
