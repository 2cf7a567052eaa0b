package cli

import (
	"context"
	"fmt"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/internal/hosts"
	"cairn/internal/parked"
	"cairn/projector"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// repairTimeout bounds how long a repair waits for the database to be reachable, and a
// command on keys for their bucket.
const repairTimeout = 10 * time.Second

// repairFlags are what commands need that work on database and queue of a
// running Cairn.
type repairFlags struct {
	dataFlag
	databaseFlag
	natsURLFlag
	natsPasswordsFlag
	logFlags
}

func (f *repairFlags) endpoint(user string) (bus.Endpoint, error) {
	return remoteQueue(f.dataFlag, f.natsURLFlag, f.natsPasswordsFlag, user)
}

type rebuildCmd struct{ repairFlags }

func (c *rebuildCmd) Run(s *session) error {
	url, err := c.running(c.dataFlag)
	if err != nil {
		return err
	}
	if err := checkSchema(s.ctx, url); err != nil {
		return err
	}
	endpoint, err := c.endpoint(bus.UserProjector)
	if err != nil {
		return err
	}
	done, err := projector.Rebuild(s.ctx, endpoint, url, c.logger(s))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "The table is new: %d rows taken over from before sequence %d, %d events replayed up to sequence %d.\n"+
		"Restart 'cairn query' (or 'cairn serve') if it has served damaged rows: it keeps the newest rows in memory.\n",
		done.Kept, done.From, done.Replayed, done.To)
	return err
}

type salvageCmd struct {
	repairFlags
	streamFlags
	Above uint64 `placeholder:"SEQUENCE" help:"Start above this sequence: the number in ingest's file 'acknowledged', if --data is not ingest's folder."`
}

func (c *salvageCmd) Run(s *session) error {
	url, err := c.running(c.dataFlag)
	if err != nil {
		return err
	}
	if err := checkSchema(s.ctx, url); err != nil {
		return err
	}
	endpoint, err := c.endpoint(bus.UserAdmin)
	if err != nil {
		return err
	}
	bound, err := c.bound(c.Data)
	if err != nil {
		return err
	}
	acknowledged, err := server.ReadAcknowledged(c.acknowledgedFile())
	if err != nil {
		return err
	}
	done, err := projector.Salvage(s.ctx, endpoint, url, bound, max(acknowledged, c.Above), c.logger(s))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "The stream is new and begins at sequence %d: %d messages read from the old one (%d missing in between), %d published again; %d the database had applied.\n",
		done.First, done.Read, done.Missing, done.Published, done.Applied)
	return err
}

type parkedCmd struct {
	Ls    parkedLsCmd    `cmd:"" help:"List parked events, newest first."`
	Show  parkedShowCmd  `cmd:"" help:"Show parked events in full."`
	Retry parkedRetryCmd `cmd:"" help:"Publish parked events again."`
	Drop  parkedDropCmd  `cmd:"" help:"Delete parked events."`
}

type whichFlags struct {
	repairFlags
	Positions []int64 `arg:"" optional:"" name:"POSITION" help:"Positions of the events."`
	All       bool    `help:"All that have not been published again."`
}

func (f *whichFlags) which() (parked.Which, error) {
	if f.All == (len(f.Positions) > 0) {
		return parked.Which{}, usagef("give positions, or --all")
	}
	return parked.Which{Positions: f.Positions, All: f.All}, nil
}

// withDatabase runs f with a connection.
func (f *repairFlags) withDatabase(s *session, do func(context.Context, *pgx.Conn) error) error {
	url, err := f.running(f.dataFlag)
	if err != nil {
		return err
	}
	cfg, err := hosts.Writer(url, "cairn-parked", repairTimeout, nil)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(s.ctx, cfg)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(s.ctx))
	if err := schema.Check(s.ctx, conn); err != nil {
		return err
	}
	return do(s.ctx, conn)
}

type parkedLsCmd struct {
	repairFlags
	All bool `help:"All, not only the newest."`
}

func (c *parkedLsCmd) Run(s *session) error {
	return c.withDatabase(s, func(ctx context.Context, conn *pgx.Conn) error { return parked.List(ctx, conn, c.All, s.stdout) })
}

type parkedShowCmd struct{ whichFlags }

func (c *parkedShowCmd) Run(s *session) error {
	which, err := c.which()
	if err != nil {
		return err
	}
	return c.withDatabase(s, func(ctx context.Context, conn *pgx.Conn) error { return parked.Show(ctx, conn, which, s.stdout) })
}

type parkedDropCmd struct{ whichFlags }

func (c *parkedDropCmd) Run(s *session) error {
	which, err := c.which()
	if err != nil {
		return err
	}
	return c.withDatabase(s, func(ctx context.Context, conn *pgx.Conn) error { return parked.Drop(ctx, conn, which, s.stdout) })
}

type parkedRetryCmd struct {
	whichFlags
	Replace bool `help:"Replace what is stored under the events' ids, and create again what was deleted."`
}

func (c *parkedRetryCmd) Run(s *session) error {
	which, err := c.which()
	if err != nil {
		return err
	}
	endpoint, err := c.endpoint(bus.UserAdmin)
	if err != nil {
		return err
	}
	log := c.logger(s)
	nc, err := bus.Reach(s.ctx, endpoint, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	collector := bus.NewCollector(js, endpoint.Refusal, prometheus.NewRegistry(), log)
	defer collector.Close()
	return c.withDatabase(s, func(ctx context.Context, conn *pgx.Conn) error {
		return parked.Retry(ctx, conn, nc, collector, which, c.Replace, s.stdout)
	})
}
