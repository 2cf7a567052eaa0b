package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cairn/internal/postgres"
	"cairn/internal/testrig"
	"cairn/schema"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"
)

const (
	noopCommand = "serve-noop"
	startWithin = 60 * time.Second
	stopWithin  = 60 * time.Second
	// appliedWithin is how long what was written may take to be in the database.
	appliedWithin = 30 * time.Minute
	anyPort       = "127.0.0.1:0"
)

// roleNames are in the order of their start: the first has the queue.
var roleNames = []string{"ingest", "projector", "query"}

// A system is a cluster, the three roles as processes of their own, so that one
// can be paused, and the peer that does nothing.
type system struct {
	binary  string
	dir     string
	cluster *postgres.Cluster
	roles   map[string]*testrig.Process
	peer    *testrig.Process
	nats    string // URL of the queue
	ingest  string // base URLs
	query   string
	noop    string
	project string
	keep    string // retention; "": forever
}

func start(ctx context.Context, binary string) (s *system, err error) {
	dir, err := os.MkdirTemp("/var/tmp", "cairn-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the user postgres passes through
		return nil, err
	}
	s = &system{dir: dir, binary: binary, roles: map[string]*testrig.Process{}}
	defer func(begun *system) {
		if err != nil {
			begun.stop()
		}
	}(s)
	if s.cluster, err = postgres.Start(ctx, filepath.Join(dir, "postgres"), slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	err = s.withConn(ctx, func(conn *pgx.Conn) error { _, _, err := schema.Migrate(ctx, conn); return err })
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if s.peer, err = (testrig.Command{Program: self, Args: []string{noopCommand}, Log: filepath.Join(dir, "noop.log")}).Launch(); err != nil {
		return nil, err
	}
	if s.noop, err = says(ctx, s.peer, noopListening); err != nil {
		return nil, err
	}
	return s, s.startRoles(ctx)
}

var noopListening = regexp.MustCompile(`address=(http://\S+)`)

func says(ctx context.Context, p *testrig.Process, pattern *regexp.Regexp) (string, error) {
	said, err := p.Says(ctx, pattern)
	if err != nil {
		return "", err
	}
	return said[1], nil
}

// startRoles starts the three and waits until each is ready.
func (s *system) startRoles(ctx context.Context) error {
	for _, name := range roleNames {
		if err := s.startRole(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range roleNames {
		err := testrig.Until(ctx, startWithin, name+" is ready", func(ctx context.Context) error {
			return testrig.GetJSON(ctx, *s.base(name)+"/readyz", nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// base is where a role listens.
func (s *system) base(name string) *string {
	return map[string]*string{"ingest": &s.ingest, "projector": &s.project, "query": &s.query}[name]
}

// startRole starts one and waits until it listens.
func (s *system) startRole(ctx context.Context, name string) error {
	args := []string{name, "--listen", anyPort, "--data", s.dir}
	if name == "ingest" {
		args = append(args, "--nats-listen", anyPort)
	} else {
		args = append(args, "--nats-url", s.nats)
	}
	if name == "projector" && s.keep != "" {
		args = append(args, "--keep", s.keep)
	}
	// One log a start, or the last start's addresses would be found.
	log, err := os.CreateTemp(s.dir, name+"-*.log")
	if err != nil {
		return err
	}
	_ = log.Close()
	p, err := testrig.Command{Program: s.binary, Args: args, Log: log.Name()}.Launch()
	if err != nil {
		return err
	}
	s.roles[name] = p
	if name == "ingest" {
		if s.nats, err = says(ctx, p, testrig.QueueIsOpen); err != nil {
			return err
		}
	}
	*s.base(name), err = says(ctx, p, testrig.Listening)
	return err
}

// stopRoles stops them in order, the queue last.
func (s *system) stopRoles() (err error) {
	for i := len(roleNames) - 1; i >= 0; i-- {
		if p := s.roles[roleNames[i]]; p != nil && p.Running() {
			err = errors.Join(err, p.Stop())
		}
	}
	return err
}

func (s *system) stop() {
	if err := s.stopRoles(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if s.peer != nil {
		s.peer.Kill()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if s.cluster != nil {
		_ = s.cluster.Stop(ctx)
	}
	_ = os.RemoveAll(s.dir)
}

func (s *system) pause()  { s.roles["projector"].Signal(syscall.SIGSTOP) }
func (s *system) resume() { s.roles["projector"].Signal(syscall.SIGCONT) }

// resetPeak, written to /proc/PID/clear_refs, makes the most memory that a process had
// resident what it has now (proc_pid_clear_refs(5)).
const resetPeak = "5"

// forgetPeaks makes peakBytes begin anew.
func (s *system) forgetPeaks() error {
	for _, name := range roleNames {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.roles[name].PID()), []byte(resetPeak), 0); err != nil {
			return fmt.Errorf("reset the peak memory of %s: %w", name, err)
		}
	}
	return nil
}

// peakBytes is the most memory that each role had resident since it was started, or
// since forgetPeaks: VmHWM in /proc/PID/status.
func (s *system) peakBytes() (map[string]int64, error) {
	peaks := map[string]int64{}
	for _, name := range roleNames {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.roles[name].PID()))
		if err != nil {
			return nil, err
		}
		_, rest, _ := strings.Cut(string(text), "VmHWM:")
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			return nil, fmt.Errorf("%s has no VmHWM", name)
		}
		kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return nil, err
		}
		peaks[name] = kilobytes << 10
	}
	return peaks, nil
}

// settle waits until all that is in the queue is in the database, and on disk.
func (s *system) settle(ctx context.Context) error {
	last, err := s.lastSequence()
	if err != nil {
		return err
	}
	if err := s.applied(ctx, last); err != nil {
		return err
	}
	return s.withConn(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "checkpoint")
		return err
	})
}

const (
	// quietLooks is how often in a row nothing is being sealed or merged before all
	// is: the projector looks for more every second, from some seconds after the last
	// full batch on.
	quietLooks, quietEvery = 100, 100 * time.Millisecond
	// mergedWithin bounds the wait for what a bulk load left to merge.
	mergedWithin = 30 * time.Minute
)

// merged waits until the projector has no segment to seal or to merge: what is
// measured then is a table that nobody has just loaded.
func (s *system) merged(ctx context.Context) error {
	return s.withConn(ctx, func(conn *pgx.Conn) error {
		quiet := 0
		return testrig.Until(ctx, mergedWithin, "the segments are merged", func(ctx context.Context) error {
			for ; quiet < quietLooks; quiet++ {
				var busy int
				err := conn.QueryRow(ctx, "select count(*) from segments where state = 'filling' or state = 'sealed' and other_ids is null").Scan(&busy)
				if err == nil && busy > 0 {
					err = fmt.Errorf("%d segments are being made", busy)
				}
				if err != nil {
					quiet = 0
					return err
				}
				if err := testrig.Pause(ctx, quietEvery); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// applied waits until the checkpoint is at sequence.
func (s *system) applied(ctx context.Context, sequence uint64) error {
	return s.withConn(ctx, func(conn *pgx.Conn) error {
		return testrig.Until(ctx, appliedWithin, "all is in the database", func(ctx context.Context) error {
			var at uint64
			err := conn.QueryRow(ctx, "select sequence from checkpoint").Scan(&at)
			if err == nil && at < sequence {
				err = fmt.Errorf("the checkpoint is at %d of %d", at, sequence)
			}
			return err
		})
	})
}

func (s *system) withConn(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.cluster.URL())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

func (s *system) postgresVersion(ctx context.Context) (v string) {
	_ = s.withConn(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select 'PostgreSQL ' || current_setting('server_version') || ', PostGIS ' || postgis_lib_version()").Scan(&v)
	})
	return v
}

// serveNoop is the peer of POST /point and of GET /points: fiber, a handler that
// does nothing, and one that answers with what it was given.
func serveNoop() {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/point", func(c *fiber.Ctx) error { return c.SendStatus(http.StatusAccepted) })
	var static []byte
	app.Put("/points", func(c *fiber.Ctx) error { static = bytes.Clone(c.Body()); return nil })
	app.Get("/points", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, "application/geo+json")
		return c.Send(static)
	})
	l, err := net.Listen("tcp", anyPort) // fiber does not say which port it was given
	if err == nil {
		fmt.Printf("address=http://%s\n", l.Addr())
		err = app.Listener(l)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
