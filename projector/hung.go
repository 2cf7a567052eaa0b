package projector

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// A connection may carry nothing any more without either end being told: a firewall or a
// proxy has forgotten it. Batches have a bound on their time. A step of maintenance has
// none, because a merge takes as long as it takes, so it would wait for ever, and no
// segment would be sealed, merged or dropped any more. Whether the database still works
// at a step, or has an answer on its way, is asked on another connection.

// hungAfter is how long a step goes on before that is asked, and how long a server
// process may have waited for us by then: maintenance says something each second.
const hungAfter = 30 * time.Second

// errHung says that the database does not work at what we wait for.
var errHung = errors.New("the connection carries nothing any more: the database has ended it, or waits for a request")

// A stepClock notes when a session of maintenance went on last.
type stepClock struct{ at atomic.Int64 }

func (c *stepClock) tick() { c.at.Store(time.Now().UnixNano()) }

func (c *stepClock) since() time.Duration { return time.Since(time.Unix(0, c.at.Load())) }

// monitor ends a session whose connection hangs, by cancel.
func (m *maintenance) monitor(ctx context.Context, pid uint32, clock *stepClock, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(m.hungAfter / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if clock.since() < m.hungAfter {
			continue
		}
		hung, err := m.hung(ctx, pid)
		switch {
		case hung:
			cancel(errHung)
			return
		case err != nil && ctx.Err() == nil:
			m.log.Debug("look whether maintenance goes on", "error", err)
		}
	}
}

// hung reports whether a server process is gone, or waits for us. One that waits is
// ended: it has the lock that the next session needs.
func (m *maintenance) hung(ctx context.Context, pid uint32) (hung bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := m.source.connect(ctx, maintenanceName+"-monitor")
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(ctx) }()
	var seconds float64
	err = conn.QueryRow(ctx, `select case when `+silent+` then extract(epoch from clock_timestamp() - state_change) else 0 end
		from pg_stat_activity where pid = $1 and application_name = $2`, pid, maintenanceName).Scan(&seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look what a server process does: %w", err)
	}
	if hung = seconds >= m.hungAfter.Seconds(); hung {
		_, err = conn.Exec(ctx, `select pg_terminate_backend($1)`, pid)
	}
	return hung, err
}
