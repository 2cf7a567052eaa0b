package query

import (
	"context"
	"errors"
	"time"

	"cairn/event"
	"cairn/internal/hosts"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

type status struct {
	Database string         `json:"database"` // "reachable", or what is wrong
	Sequence uint64         `json:"sequence"`
	Position event.Position `json:"position"`
	Parked   int64          `json:"parked"`
	// Server is the one that answered, Standby whether it is one, and Lag how far it is
	// behind what was projected.
	Server  string     `json:"server,omitempty"`
	Standby bool       `json:"standby"`
	Lag     float64    `json:"lag_seconds"`
	Pool    poolStatus `json:"pool"`
}

type poolStatus struct {
	Max      int32 `json:"max"`
	Open     int32 `json:"open"`
	InUse    int32 `json:"in_use"`
	Acquired int64 `json:"acquired"` // in all
	Waited   int64 `json:"waited"`   // how many of them found none free
}

// status is the role's part of GET /status.
func (s *service) status(ctx context.Context) any {
	pool := s.pool.Stat()
	st := status{Database: "reachable", Pool: poolStatus{
		Max: pool.MaxConns(), Open: pool.TotalConns(), InUse: pool.AcquiredConns(),
		Acquired: pool.AcquireCount(), Waited: pool.EmptyAcquireCount(),
	}}
	var sequence int64
	read := func() error {
		return s.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
			st.Server = hosts.HostOf(c.Conn().PgConn())
			return c.QueryRow(ctx, statusSelect).Scan(&sequence, &st.Parked, &st.Standby)
		})
	}
	begun := time.Now()
	err := read()
	for err != nil && s.again(err, time.Since(begun)) {
		err = read()
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNoCheckpoint
	}
	if err != nil {
		st.Database = "an error of the database; the log has it"
		if p := problem(err); p != nil {
			st.Database = p.Detail
		}
		s.log.Warn("status: read the checkpoint", "error", err)
		return st
	}
	st.Sequence = uint64(sequence)
	st.Lag = s.tracker.Behind(st.Sequence).Seconds()
	if sequence > 0 {
		st.Position = event.EndOf(st.Sequence)
	}
	return st
}
