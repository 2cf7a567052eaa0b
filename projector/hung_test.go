package projector

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn/bus"
	"cairn/internal/testkit"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Maintenance goes on over another connection where the one it has carries nothing any
// more, without either end being told.
func TestMaintenanceLeavesAHungConnection(t *testing.T) {
	const headRows = 20
	b := newBench(t)
	through := newMute(t, b.url)
	database := b.url
	b.url = through.url
	b.start(func(c *Config) { c.sizes, c.hungAfter = smallSizes(headRows), 3*time.Second })
	b.url = database
	b.waitFor(b.publish(line("p-0", `{}`)))
	// It hangs in the middle of a step: while an index waits for a lock.
	held, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Rollback(context.Background()) }()
	if _, err := held.Exec(t.Context(), `lock table points_1 in row exclusive mode`); err != nil {
		t.Fatal(err)
	}
	b.exec(fmt.Sprintf(`insert into points_1 (id, position, received_at, geom)
		select gen_random_uuid(), 1000 + i, now(), ST_SetSRID(ST_MakePoint(1, 2), 4326) from generate_series(1, %d) i`, 2*headRows))
	testkit.Eventually(t, patience, "maintenance to wait for the lock", func() bool {
		return b.count(`select count(*) from pg_stat_activity where application_name = '`+maintenanceName+`' and wait_event_type = 'Lock'`) > 0
	})
	through.muteAll()
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 2*patience, "the full head to be sealed", func() bool {
		return b.count(`select count(*) from segments where id = 1 and state = 'sealed' and rows is not null`) == 1
	})
	through.end() // so that nothing waits for its bound at the end
}

// A connection that was lost in the middle of a COPY is ended, and gives up what it has.
func TestStalledCopiesEnd(t *testing.T) {
	b := newBench(t)
	b.start(func(c *Config) { c.hungAfter = 3 * time.Second })
	cfg := b.pool.Config().ConnConfig.Copy()
	stalled := func(name string) (gone func() bool) {
		t.Helper()
		cfg.RuntimeParams["application_name"] = name
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		message, _ := (&pgproto3.Query{String: unfed}).Encode(nil)
		if _, err := conn.PgConn().Conn().Write(message); err != nil {
			t.Fatal(err)
		}
		present := func(in string) bool {
			return b.count(fmt.Sprintf(`select count(*) from pg_stat_activity where pid = %d and %s`, conn.PgConn().PID(), in)) > 0
		}
		testkit.Eventually(t, patience, "it to wait for rows", func() bool { return present(`wait_event = 'ClientRead' and state = 'active'`) })
		return func() bool { return !present("true") }
	}
	others, ours := stalled("psql"), stalled(prefetchName)
	testkit.Eventually(t, patience, "ours to be ended", ours)
	if others() {
		t.Error("another program's was ended too")
	}
}

// A mute stands between a client and Postgres; connections that it mutes stay open and
// carry nothing.
type mute struct {
	url  string
	ln   net.Listener
	upTo atomic.Int64 // connections that came before it carry nothing
	n    atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

func newMute(t *testing.T, database string) *mute {
	t.Helper()
	cfg, err := pgconn.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	u := url.URL{Scheme: "postgres", User: url.UserPassword(cfg.User, cfg.Password), Host: ln.Addr().String(), Path: "/" + cfg.Database, RawQuery: "sslmode=disable"}
	m := &mute{url: u.String(), ln: ln}
	network, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(context.Background(), network, address)
			if err != nil {
				_ = client.Close()
				continue
			}
			m.mu.Lock()
			m.conns = append(m.conns, client, server)
			m.mu.Unlock()
			n := m.n.Add(1)
			go m.carry(n, client, server)
			go m.carry(n, server, client)
		}
	}()
	return m
}

func (m *mute) muteAll() { m.upTo.Store(m.n.Load()) }

// end closes all connections.
func (m *mute) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		_ = c.Close()
	}
}

// carry copies what comes, until one end is closed.
func (m *mute) carry(n int64, from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buf := make([]byte, 32<<10)
	for {
		k, err := from.Read(buf)
		if n > m.upTo.Load() {
			if _, err := to.Write(buf[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// A session whose connection falls silent before it projects is given up, and another is
// begun.
func TestSessionLeavesAHungConnection(t *testing.T) {
	b := newBench(t)
	held, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Rollback(context.Background()) }()
	if _, err := held.Exec(t.Context(), `lock table checkpoint in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	through := newMute(t, b.url)
	database := b.url
	b.url = through.url
	b.start(func(c *Config) { c.hungAfter = 3 * time.Second })
	b.url = database
	testkit.Eventually(t, patience, "the session to wait for an answer", func() bool {
		return b.count(`select count(*) from pg_stat_activity where application_name = '`+applicationName+`' and wait_event_type = 'Lock'`) > 0
	})
	through.muteAll()
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "a session over another connection", func() bool {
		_, err := b.js.Stream(t.Context(), bus.Stream)
		return err == nil && b.status().Problem == ""
	})
	b.waitFor(b.publish(line("p-0", `{}`)))
	through.end() // so that nothing waits for its bound at the end
}
