package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"cairn/bus"
	"cairn/ingest"
	"cairn/internal/datadir"
	"cairn/internal/postgres"
	"cairn/projector"
	"cairn/query"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/oklog/run"
)

// clusterStopTimeout bounds the end of the private cluster, whose last
// checkpoint writes out what is in memory only.
const clusterStopTimeout = 60 * time.Second

type serveCmd struct {
	Listen string `default:"127.0.0.1:8080" env:"CAIRN_LISTEN" placeholder:"HOST:PORT" help:"Where to listen for HTTP (${default})."`
	webFlags
	dataFlag
	databaseFlag
	natsURLFlag
	queueFlags
	replayFlags
	standbysFlag
	keepFlag
	hookFlag
	mapFlag
	changeFlags
	deviceFlags
	publicFlag
	logFlags
}

// Run puts the roles together in one process:
//
//	               HTTP server
//	              /           \
//	POST → ingest              query → GET
//	          |                  |
//	   NATS server → projector → PostGIS
//
// and takes them apart in the order of the picture, so that whatever was
// accepted is answered before what it stands on goes.
func (c *serveCmd) Run(s *session) error {
	log := c.logger(s)
	if c.ClusterListen != "" && c.DatabaseURL == "" {
		return usagef("a cluster of cairn serve needs one database for all nodes: --database-url")
	}
	standbys, err := c.which()
	if err != nil {
		return err
	}
	// The port first: it is the likeliest thing to be wrong.
	server, err := c.listen(s, c.Listen, 3, log)
	if err != nil {
		return err
	}
	if err := c.publish(server.Server); err != nil {
		return err
	}
	mqtt, forms, err := c.deviceFlags.open(c.webFlags, log)
	if err != nil {
		return err
	}
	q, err := openQueue(c.dataFlag, c.natsURLFlag, c.queueFlags, c.webFlags, s.build.Version, log)
	if err != nil {
		return err
	}
	defer q.close()
	watching, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	defer cancel()
	monitorFolder(watching, server.Server, c.Data, log)
	end, err := server.follow(q.endpoint(bus.UserIngest))
	if err != nil {
		return err
	}
	defer end()
	db, err := c.database(s.ctx, log)
	if _, left := postgres.Find(c.cluster()); err != nil && s.ctx.Err() != nil && !left {
		log.Info("told to stop before all had started", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer stopCluster(db.cluster, log)

	var g run.Group
	var hint bus.Hint
	addStop(&g, s.ctx)
	addActor(&g, s.ctx, func(ctx context.Context) error { notifySystemd(ctx, server, log); return nil })
	addActor(&g, s.ctx, server.Run)
	addActor(&g, s.ctx, func(ctx context.Context) error {
		return query.Run(ctx, query.Config{Server: server.Server, Writable: true, MapStyle: c.MapStyle, Bus: q.endpoint(bus.UserQuery), DatabaseURL: db.url, Hint: &hint, Log: log})
	})
	addActor(&g, s.ctx, func(ctx context.Context) error {
		return ingest.Run(ctx, ingest.Config{Server: server.Server, Bus: q.endpoint(bus.UserIngest), Log: log, RequireConditions: c.RequireConditions, MQTT: mqtt, Forms: forms, Hint: &hint})
	})
	addActor(&g, s.ctx, func(ctx context.Context) error {
		return projector.Run(ctx, projector.Config{Server: server.Server, Bus: q.endpoint(bus.UserProjector), DatabaseURL: db.url,
			MaxBytes: q.bound, WantBytes: c.MaxBytes, Replicas: c.Replicas, Replay: c.window(), Keep: time.Duration(c.Keep), TrimStandbys: standbys, HookNetworks: c.HookNetworks, Log: log})
	})
	if db.cluster != nil {
		addActor(&g, s.ctx, func(ctx context.Context) error { db.cluster.Supervise(ctx); return nil })
	}
	if db.away {
		addActor(&g, s.ctx, func(ctx context.Context) error { return migrateLater(ctx, db.url, log) })
	}
	c.greet(s.stdout, server.scheme, server.Addr(), q)
	defer log.Info("stopped")
	return g.Run()
}

// A database is where the points are.
type database struct {
	url     string
	cluster *postgres.Cluster // the private one, if it runs in that
	away    bool              // could not be reached, and is not migrated yet
}

// database finds the database, migrated, unless it is unreachable: writes are taken
// without it.
func (c *serveCmd) database(ctx context.Context, log *slog.Logger) (database, error) {
	if c.DatabaseURL != "" {
		err := migrateAndSay(ctx, c.DatabaseURL, log)
		if unreachable(err) {
			log.Warn("the database is not reachable: writes are taken, reads wait until it is", "error", err)
			return database{url: c.DatabaseURL, away: true}, nil
		}
		return database{url: c.DatabaseURL}, err
	}
	if err := postgres.Installed(); err != nil {
		return database{}, usageError{err}
	}
	cluster, err := postgres.Start(ctx, c.cluster(), log)
	if err != nil {
		return database{}, err
	}
	if err := migrateAndSay(ctx, cluster.URL(), log); err != nil {
		stopCluster(cluster, log)
		return database{}, err
	}
	return database{url: cluster.URL(), cluster: cluster}, nil
}

// migrateEvery is how often a database that is unreachable is tried.
const migrateEvery = time.Second

// migrateLater brings the schema up to this version as soon as the database can be
// reached. What else is wrong with it ends the process, as it does at the start.
func migrateLater(ctx context.Context, url string, log *slog.Logger) error {
	ticker := time.NewTicker(migrateEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := migrateAndSay(ctx, url, log)
		switch {
		case ctx.Err() != nil:
			return nil
		case unreachable(err):
			continue
		case err != nil:
			return err
		}
		log.Info("the database is reachable")
		<-ctx.Done() // an actor that returns ends the others
		return nil
	}
}

// unreachable reports whether waiting may help: nobody answers there, or the server
// starts, stops, or has no connection free (SQLSTATE 57P03, 57P01, 53300). A wrong
// password or an unknown database are wrong settings.
func unreachable(err error) bool {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return false
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return true
	}
	return slices.Contains([]string{"57P03", "57P01", "53300"}, refused.Code)
}

func migrateAndSay(ctx context.Context, url string, log *slog.Logger) error {
	from, to, err := migrate(ctx, url)
	if err == nil && from != to {
		log.Info("brought the database's schema up to this version", "from", from, "to", to)
	}
	return err
}

func stopCluster(cluster *postgres.Cluster, log *slog.Logger) {
	if cluster == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), clusterStopTimeout)
	defer cancel()
	if err := cluster.Stop(ctx); err != nil {
		log.Error("stop the private PostGIS", "error", err)
	}
}

// inspector is what the nats CLI has to say of who it is, where it is asked.
func (c *serveCmd) inspector() string {
	switch {
	case !c.asks():
		return ""
	case c.NATSPasswords[bus.UserInspect] != "":
		return " --user " + bus.UserInspect + " --password …"
	}
	return fmt.Sprintf(` --user %[1]s --password "$(sed -n 's/^%[1]s //p' %[2]s)"`, bus.UserInspect, c.passwords())
}

// greet says what to try next.
func (c *serveCmd) greet(out io.Writer, scheme, address string, q *queue) {
	base := scheme + "://" + listenHost(address)
	data, err := datadir.Resolve(c.Data)
	if err != nil {
		data = c.Data
	}
	fmt.Fprintf(out, `
Cairn serves on %[1]s; its data is in %[2]s. Ctrl-C stops it.

Send a point, follow its Location, list the newest, ask for an area:
  curl -i -X POST %[1]s/point -H 'Content-Type: application/json' -d '{"longitude": 2.3522, "latitude": 48.8566, "name": "Paris"}'
  curl '%[1]s/points/ID?min_position=N'
  curl '%[1]s/points?limit=10'
  curl '%[1]s/points?bbox=-5,42,9,51'

Send files, and see how it is:
  %[3]s load --url %[1]s FILE.csv FILE.geojson
  curl %[1]s/status
  curl %[1]s/readyz
  curl %[1]s/metrics
`, base, data, os.Args[0])
	if q.server != nil {
		fmt.Fprintf(out, `
Look into the queue:
  nats --server nats://%[1]s%[4]s stream info %[2]s
  nats --server nats://%[1]s%[4]s stream get %[2]s 1
  nats --server nats://%[1]s%[4]s consumer info %[2]s %[3]s
`, listenHost(q.server.Addr()), bus.Stream, bus.Consumer, c.inspector())
	}
	fmt.Fprintln(out)
}
