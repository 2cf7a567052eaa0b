package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/ingest"
	"cairn/internal/datadir"
	"cairn/internal/garbage"
	"cairn/internal/hosts"
	"cairn/internal/web"
	"cairn/projector"
	"cairn/query"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/run"
)

// An actor is something that runs until its context ends. When a group of
// actors stops, each is stopped, and waited for, in the order of their adding:
// first what takes requests, last what the others stand on.
func addActor(g *run.Group, ctx context.Context, actor func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	g.Add(func() error {
		defer close(ended)
		return actor(ctx)
	}, func(error) {
		cancel()
		<-ended
	})
}

// addStop adds what ends the group when ctx does.
func addStop(g *run.Group, ctx context.Context) {
	cancel := make(chan struct{})
	g.Add(func() error {
		select {
		case <-ctx.Done():
		case <-cancel:
		}
		return nil
	}, func(error) { close(cancel) })
}

// serveOne runs one role with its HTTP server until ctx ends.
func serveOne(s *session, f webFlags, listen string, endpoint bus.Endpoint, log *slog.Logger, role func(context.Context, *web.Server) error) error {
	server, err := f.listen(s, listen, 1, log)
	if err != nil {
		return err
	}
	end, err := server.follow(endpoint)
	if err != nil {
		return err
	}
	defer end()
	var g run.Group
	addStop(&g, s.ctx)
	addActor(&g, s.ctx, func(ctx context.Context) error { notifySystemd(ctx, server, log); return nil })
	addActor(&g, s.ctx, server.Run)
	addActor(&g, s.ctx, func(ctx context.Context) error { return role(ctx, server.Server) })
	log.Info("listening", "address", server.scheme+"://"+server.Addr())
	return g.Run()
}

type ingestCmd struct {
	Listen string `default:"127.0.0.1:8081" env:"CAIRN_LISTEN" placeholder:"HOST:PORT" help:"Where to listen for HTTP (${default})."`
	webFlags
	dataFlag
	natsURLFlag
	queueFlags
	changeFlags
	deviceFlags
	publicFlag
	logFlags
}

func (c *ingestCmd) Run(s *session) error {
	log := c.logger(s)
	q, err := openQueue(c.dataFlag, c.natsURLFlag, c.queueFlags, c.webFlags, s.build.Version, log)
	if err != nil {
		return err
	}
	defer q.close()
	mqtt, forms, err := c.deviceFlags.open(c.webFlags, log)
	if err != nil {
		return err
	}
	return serveOne(s, c.webFlags, c.Listen, q.endpoint(bus.UserIngest), log, func(ctx context.Context, server *web.Server) error {
		monitorFolder(ctx, server, c.Data, log)
		if err := c.publish(server); err != nil {
			return err
		}
		return ingest.Run(ctx, ingest.Config{Server: server, Bus: q.endpoint(bus.UserIngest), Log: log, RequireConditions: c.RequireConditions, MQTT: mqtt, Forms: forms})
	})
}

type projectorCmd struct {
	Listen string `default:"127.0.0.1:8083" env:"CAIRN_LISTEN" placeholder:"HOST:PORT" help:"Where to listen for HTTP: health and metrics (${default})."`
	webFlags
	dataFlag
	databaseFlag
	natsURLFlag
	natsPasswordsFlag
	replicasFlag
	streamFlags
	replayFlags
	standbysFlag
	keepFlag
	hookFlag
	logFlags
}

func (c *projectorCmd) Run(s *session) error {
	log := c.logger(s)
	url, err := c.running(c.dataFlag)
	if err != nil {
		return err
	}
	if err := checkSchema(s.ctx, url); err != nil {
		return err
	}
	endpoint, err := remoteQueue(c.dataFlag, c.natsURLFlag, c.natsPasswordsFlag, bus.UserProjector)
	if err != nil {
		return err
	}
	bound, err := c.bound(c.Data)
	if err != nil {
		return err
	}
	standbys, err := c.which()
	if err != nil {
		return err
	}
	return serveOne(s, c.webFlags, c.Listen, endpoint, log, func(ctx context.Context, server *web.Server) error {
		return projector.Run(ctx, projector.Config{Server: server, Bus: endpoint, DatabaseURL: url,
			MaxBytes: bound, WantBytes: c.MaxBytes, Replicas: c.Replicas, Replay: c.window(), Keep: time.Duration(c.Keep), TrimStandbys: standbys, HookNetworks: c.HookNetworks, Log: log})
	})
}

type queryCmd struct {
	Listen string `default:"127.0.0.1:8082" env:"CAIRN_LISTEN" placeholder:"HOST:PORT" help:"Where to listen for HTTP (${default})."`
	webFlags
	dataFlag
	databaseFlag
	natsURLFlag
	natsPasswordsFlag
	lagFlag
	mapFlag
	publicFlag
	ingestURLFlag
	logFlags
}

func (c *queryCmd) Run(s *session) error {
	log := c.logger(s)
	url, err := c.running(c.dataFlag)
	if err != nil {
		return err
	}
	if err := checkSchema(s.ctx, url); err != nil {
		return err
	}
	endpoint, err := remoteQueue(c.dataFlag, c.natsURLFlag, c.natsPasswordsFlag, bus.UserQuery)
	if err != nil {
		return err
	}
	return serveOne(s, c.webFlags, c.Listen, endpoint, log, func(ctx context.Context, server *web.Server) error {
		if err := c.publish(server); err != nil {
			return err
		}
		return query.Run(ctx, query.Config{Server: server, IngestURL: c.IngestURL, MapStyle: c.MapStyle, MaxLag: c.MaxLag, Bus: endpoint, DatabaseURL: url, Log: log})
	})
}

type migrateCmd struct {
	dataFlag
	databaseFlag
}

func (c *migrateCmd) Run(s *session) error {
	url, err := c.running(c.dataFlag)
	if err != nil {
		return err
	}
	from, to, err := migrate(s.ctx, url)
	if err != nil {
		return err
	}
	if from == to {
		_, err = fmt.Fprintf(s.stdout, "The schema is at version %d already.\n", to)
	} else {
		_, err = fmt.Fprintf(s.stdout, "The schema went from version %d to %d.\n", from, to)
	}
	return err
}

func migrate(ctx context.Context, url string) (from, to int32, err error) {
	reach, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	cfg, err := hosts.Writer(url, "cairn-migrate", reachTimeout, nil)
	if err != nil {
		return 0, 0, err
	}
	conn, err := pgx.ConnectConfig(reach, cfg)
	if err != nil {
		return 0, 0, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return schema.Migrate(ctx, conn)
}

// reachTimeout bounds the wait for a connection, of which a migration then has no bound:
// a host that drops packets would hold it for minutes.
const reachTimeout = 10 * time.Second

// checkTimeout bounds the look at the schema's version before a role starts.
const checkTimeout = 5 * time.Second

// checkSchema refuses a database that belongs to a newer Cairn. One that is unreachable
// now is looked at when it is there.
func checkSchema(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return usagef("the database URL: %w", err)
	}
	cfg.ValidateConnect = nil // any of them will do
	hosts.Hasten(&cfg.Config, checkTimeout)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil //nolint:nilerr // the role says so, and waits for it
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return schema.Check(ctx, conn)
}

const localNATS = "nats://127.0.0.1:4222"

// remoteQueue is how a role reaches a NATS server of another process. That
// process may make the password, and may start after this one, so it is looked
// for at every attempt to connect. Where there is none, the URL has both, or
// the server needs none.
func remoteQueue(data dataFlag, f natsURLFlag, p natsPasswordsFlag, user string) (bus.Endpoint, error) {
	if _, err := readPasswords(data.passwords(), p.NATSPasswords); err != nil {
		return bus.Endpoint{}, err
	}
	if err := f.check(); err != nil {
		return bus.Endpoint{}, err
	}
	url := f.NATSURL
	if url == "" {
		url = localNATS
	}
	credentials := func() (string, string) {
		passwords, err := readPasswords(data.passwords(), p.NATSPasswords)
		if err != nil || passwords[user] == "" {
			return "", ""
		}
		return user, passwords[user]
	}
	return bus.Endpoint{URL: url, User: user, Credentials: credentials,
		CredentialsFile: f.NATSCreds, CA: f.NATSCA, Cert: f.NATSCert, Key: f.NATSKey}, nil
}

// queueFlags are how the embedded queue is run.
type queueFlags struct {
	natsListenFlag
	natsPasswordsFlag
	clusterFlags
	streamFlags
}

// A queue is the NATS server: one of our own in this process, or another.
type queue struct {
	server *server.Server
	remote func(user string) (bus.Endpoint, error)
	bound  int64  // for the stream, in bytes
	forget func() // that its blocks are in this process
	unlock func()
}

// storeShare is how much larger than the stream the store may grow: consumers
// and what the server keeps while it rewrites blocks.
const storeShare = 2

const (
	// queueShare is the part of the files that HTTP leaves which the queue's connections
	// may take up: MQTT has half, and Postgres, the store and pg_ctl need theirs.
	queueShare = 4
	// leastQueue is how many there may be anyhow. The dozen of this process needs no files.
	leastQueue = 32
)

// openQueue starts the embedded server, unless there is a NATS URL.
func openQueue(data dataFlag, u natsURLFlag, f queueFlags, w webFlags, version string, log *slog.Logger) (*queue, error) {
	bound, err := f.bound(data.Data)
	if err != nil {
		return nil, err
	}
	unlock, err := datadir.Lock(data.Data)
	if err != nil {
		return nil, err
	}
	q := &queue{bound: bound, unlock: unlock}
	if u.NATSURL != "" {
		q.remote = func(user string) (bus.Endpoint, error) { return remoteQueue(data, u, f.natsPasswordsFlag, user) }
		_, err = q.remote(bus.UserIngest)
		if err == nil && f.ClusterListen != "" {
			err = usagef("--nats-url is a queue of others, and --cluster-listen makes one here: give one of them")
		}
	} else {
		q.server, err = f.start(data, bound, w, version, log)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	if q.server != nil {
		q.forget = garbage.CountBlocks()
		log.Info("the queue is open", "nats", "nats://"+q.server.Addr(), "store", data.store())
	}
	return q, nil
}

// start starts the embedded server.
func (f queueFlags) start(data dataFlag, bound int64, w webFlags, version string, log *slog.Logger) (*server.Server, error) {
	passwords, err := makePasswords(data.passwords(), f.NATSPasswords)
	if err != nil {
		return nil, err
	}
	cluster, err := f.cluster(passwords)
	if err != nil {
		return nil, err
	}
	encrypted, err := w.queueTLS(f.NATSListen, log)
	if err != nil {
		return nil, err
	}
	s, err := server.Start(server.Config{TLS: encrypted, Closed: w.asks(), Listen: f.NATSListen, StoreDir: data.store(), AcknowledgedFile: data.acknowledgedFile(), AdoptDir: data.adopted(),
		MaxStore: storeShare * max(bound, f.MaxBytes), MaxConnections: max(web.SpareFiles()/queueShare, leastQueue), Passwords: passwords, Cluster: cluster, Version: version, Log: log})
	if errors.Is(err, server.ErrSingleStore) || errors.Is(err, server.ErrClusterStore) {
		err = usageError{err}
	}
	return s, err
}

func (q *queue) endpoint(user string) bus.Endpoint {
	if q.server != nil {
		return q.server.Endpoint(user)
	}
	e, _ := q.remote(user) // openQueue has tried it
	return e
}

func (q *queue) close() {
	if q.server != nil {
		q.server.Close()
		q.forget()
	}
	q.unlock()
}
