package query

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// A Peer is what the benchmark compares pages with: the same statements over
// the same kind of connections, their rows received and dropped. It has no
// HTTP, no encoding and no cache.
type Peer struct{ s *service }

// OpenPeer prepares connections.
func OpenPeer(ctx context.Context, url string) (*Peer, error) {
	pool, err := openPool(ctx, url)
	if err != nil {
		return nil, err
	}
	return &Peer{peerService(ctx, pool)}, nil
}

func peerService(ctx context.Context, pool *pgxpool.Pool) *service {
	return &service{log: slog.New(slog.DiscardHandler), pool: pool, stopping: ctx,
		metrics: newMetrics(prometheus.NewRegistry())}
}

// Close closes the connections.
func (p *Peer) Close() { p.s.pool.Close() }

// Ask runs what GET /points with this query string would, and returns how many
// rows came.
func (p *Peer) Ask(query string) (rows int, err error) {
	l, err := parseList(query)
	if err != nil {
		return 0, err
	}
	w, args := l.ways(), l.args()
	count := func(row) (bool, error) { rows++; return true, nil }
	_, err = p.s.rows(w.first, args, count)
	if errors.Is(err, errUndecided) {
		var way statement
		if way, err = p.s.choose(w, args); err == nil {
			_, err = p.s.rows(way, args, count)
		}
	}
	return rows, err
}
