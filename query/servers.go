package query

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"cairn/bus"
	"cairn/internal/hosts"
)

const (
	// failoverPatience bounds how long a request is asked again while the database's
	// servers change their roles. One that is a single server is asked again at once,
	// and not after that: it may be unreachable for long, and the caller is told.
	failoverPatience = 3 * time.Second
	// failoverPause is between two tries.
	failoverPause = 50 * time.Millisecond
)

// again reports whether a request that failed is to be asked again: its connection
// broke, or its server ended it, as in a promotion.
func (s *service) again(err error, after time.Duration) bool {
	if !broken(err) || after >= failoverPatience || !s.several && after >= failoverPause {
		return false
	}
	select {
	case <-s.stopping.Done():
		return false
	case <-time.After(failoverPause):
		return true
	}
}

// broken reports whether an error is of the connection or of the server's role, and not
// of the request.
func broken(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch refused.Code {
		case "57P01", "57P02", "57P03": // it stops, it was killed, it starts
			return true
		case "40001", "40P01": // a standby has to replay what the request still read
			return true
		}
		return false
	}
	var network net.Error
	return pgconn.SafeToRetry(err) || errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) || cutOff(err)
}

// heard takes an announcement.
func (s *service) heard(a bus.Applied) {
	if s.primaries.Raise(hosts.ParseLineage(a.Database)) {
		// Connections may lead to a primary of before.
		s.reader.Reset()
		s.feed.Reset()
	}
	s.tracker.Saw(a.Sequence)
	s.reader.Announced(a.Catalogue)
}

// ready says why this replica should not be asked: its database is too far behind.
func (s *service) ready() error {
	if lag := s.tracker.Lag(); s.maxLag > 0 && lag > s.maxLag {
		return fmt.Errorf("the database that this replica reads is %v behind what was projected, and --max-lag is %v", lag.Round(time.Second), s.maxLag)
	}
	return nil
}

// lagEvery is how often a database that nobody asks is looked at, where it may lag.
const lagEvery = time.Second

// watchLag keeps what is known of the lag up to date.
func (s *service) watchLag(ctx context.Context) {
	ticker := time.NewTicker(lagEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.tracker.Lag()
		}
	}
}
