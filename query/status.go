package query

import (
	"context"
	"errors"

	"cairn/event"

	"github.com/jackc/pgx/v5"
)

type status struct {
	Database string         `json:"database"` // "reachable", or what is wrong
	Sequence uint64         `json:"sequence"`
	Position event.Position `json:"position"`
	Parked   int64          `json:"parked"`
	Pool     poolStatus     `json:"pool"`
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
	err := s.pool.QueryRow(ctx, statusSelect).Scan(&sequence, &st.Parked)
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
	if sequence > 0 {
		st.Position = event.EndOf(st.Sequence)
	}
	return st
}
