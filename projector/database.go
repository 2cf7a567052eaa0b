package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/bus"
	"cairn/internal/hosts"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// elsewhereEvery is how often the other servers of the database are asked whether
	// one of them was promoted, while the one we write to continues as if nothing had
	// happened.
	elsewhereEvery = 3 * time.Second
	// severalPause bounds the pause after a failed session where the database is
	// several servers: one of them may be promoted at any moment.
	severalPause = 250 * time.Millisecond
)

// A source makes the projector's connections to the database.
type source struct {
	url  string
	seen *hosts.Seen // of all connections of the process
}

// connect connects under a name that Postgres' own views show, to the server that
// takes writes, and to none that was the primary before another.
func (s source) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	cfg, err := hosts.Writer(s.url, name, connectTimeout, s.seen)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
}

func (s source) several() bool {
	cfg, err := pgx.ParseConfig(s.url)
	return err == nil && hosts.Several(&cfg.Config)
}

// seenOf takes over what was noted with the queue of the primaries there were. What is
// noted counts, also where it says less than this process has seen: a person may have
// decided so.
func seenOf(noted string, seen *hosts.Seen) {
	if l := hosts.ParseLineage(noted); l != (hosts.Lineage{}) || noted == "" {
		seen.Set(l)
	}
}

// begin takes over what was noted and met.
func (p *projector) begin(ctx context.Context) error {
	noted, err := bus.NotedDatabase(ctx, p.js)
	if err != nil {
		return err
	}
	seenOf(noted, p.source.seen)
	if time.Since(p.metAt) < metFor {
		p.source.seen.Raise(p.met)
	}
	return nil
}

// metFor is how long a later primary that was met is looked for, before the one of
// before is used on, should it be gone again.
const metFor = 30 * time.Second

// sourceOf is a source for a command, which knows what was noted with the queue.
func sourceOf(ctx context.Context, js jetstream.JetStream, url string) (source, error) {
	from := source{url: url, seen: &hosts.Seen{}}
	noted, err := bus.NotedDatabase(ctx, js)
	if err != nil {
		return from, err
	}
	seenOf(noted, from.seen)
	return from, nil
}

// follow ends with an error when another primary is to be projected to.
func (p *projector) follow(ctx context.Context, conn *pgx.Conn, lineage hosts.Lineage) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	looked := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := p.noted(ctx, lineage); err != nil {
			return p.cutOff(conn, err)
		}
		if !p.several || time.Since(looked) < elsewhereEvery {
			continue
		}
		if found, ok := elsewhere(ctx, p.source.url, lineage); ok {
			p.met, p.metAt = found, time.Now()
			return p.cutOff(conn, fmt.Errorf("another server of the database was promoted (timeline %d after %d): leaving the primary of before", found.Timeline, lineage.Timeline))
		}
		looked = time.Now()
	}
}

// noted looks whether another projector has met a later primary.
func (p *projector) noted(ctx context.Context, lineage hosts.Lineage) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	text, err := bus.NotedDatabase(ctx, p.js)
	if err != nil {
		return nil //nolint:nilerr // others say so, and the next look is in a second
	}
	if noted := hosts.ParseLineage(text); lineage.Before(noted) {
		return fmt.Errorf("another projector has met a later primary of the database (timeline %d after %d)", noted.Timeline, lineage.Timeline)
	}
	return nil
}

// cutOff ends the connection at once, whatever waits on it: the current batch would
// go to the former primary.
func (p *projector) cutOff(conn *pgx.Conn, why error) error {
	_ = conn.PgConn().Conn().Close()
	return why
}

// elsewhere looks for a later primary among the servers that the URL names.
func elsewhere(ctx context.Context, url string, than hosts.Lineage) (hosts.Lineage, bool) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil || than == (hosts.Lineage{}) {
		return hosts.Lineage{}, false
	}
	var found hosts.Lineage
	hosts.Hasten(&cfg.Config, connectTimeout)
	cfg.RuntimeParams["application_name"] = applicationName + "-look"
	cfg.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		l, err := hosts.Of(ctx, conn)
		if err != nil {
			return err
		}
		if !than.Before(l) {
			return errNotLater
		}
		found = l
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return hosts.Lineage{}, false
	}
	_ = conn.Close(ctx)
	return found, true
}

var errNotLater = errors.New("no later primary")
