// Package server runs the queue's server inside this process: a NATS server with
// JetStream, configured so that every acknowledged message is on disk. Package bus
// is its client side and does not depend on it.
package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"cairn/bus"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// slowStart is how long the embedded server may read its store in silence:
	// 1 GiB took 0.3 s.
	slowStart = 10 * time.Second
	// listenTimeout bounds the wait for its listener, after that.
	listenTimeout = 10 * time.Second
	// writeDeadline is how long the server waits for a client that does not
	// read before it cuts it.
	writeDeadline = 10 * time.Second
	// routeReports is each how many failed attempts, one a second, to reach a node that
	// is unreachable the log says so again.
	routeReports = 60
	// maxPending bounds what waits in memory for a client that does not read, which is cut
	// then. The projector may be sent 12 MiB ahead.
	maxPending = 16 << 20
	// tlsTimeout bounds a handshake, on a bad radio link.
	tlsTimeout = 5 * time.Second
)

// Config says how to run the embedded server.
type Config struct {
	Listen   string // host:port; port 0 or -1 takes a free one
	StoreDir string
	// AcknowledgedFile, beside the store, keeps what was acknowledged; "" for none.
	AcknowledgedFile string
	// AdoptDir, beside the store, has what [Adopt] took out of a single node's store
	// for the cluster to take in; "" for none.
	AdoptDir string
	// MaxStore bounds all streams and consumers together, in bytes.
	MaxStore int64
	// Cluster is nil where this node keeps the queue alone.
	Cluster *Cluster
	// Version of the program, which the node reports.
	Version string
	// MaxConnections bounds those of clients, those of this process included; 0: 65,536.
	MaxConnections int
	// Passwords by user. On a loopback address, a client that gives none is
	// [bus.UserInspect], so that the nats CLI works at once.
	Passwords map[string]string
	// Closed: who gives no password is let in on no address.
	Closed bool
	// TLS encrypts the connections of clients; nil: they are not. Those of this process
	// need none.
	TLS *tls.Config
	Log *slog.Logger

	ownPassword string // of userNode, userStore and userWriter
}

// A Server is an embedded NATS server with JetStream, set so that a message it
// acknowledges is on disk. Where its store cannot be written (the disk is full)
// it refuses writes, and recovers on its own when it can: see monitor.
type Server struct {
	cfg       Config
	current   atomic.Pointer[natsserver.Server]
	refusal   atomic.Pointer[error]
	acked     *acknowledgedFile // nil where none is kept
	stop      context.CancelFunc
	monitored chan struct{} // closed when monitor has returned
	checks    atomic.Uint64 // checks of the store that began or ended: odd while one is under way
	// node is what a node of a cluster knows of the others; nil without a cluster.
	node *node
	nc   *nats.Conn // answers for the store
}

// Start starts the embedded server and waits until it takes connections.
func Start(cfg Config) (*Server, error) {
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if err := checkFree(host, port); err != nil {
		return nil, err
	}
	if err := checkStore(cfg.StoreDir, cfg.AdoptDir, cfg.Cluster != nil); err != nil {
		return nil, err
	}
	cfg.ownPassword = rand.Text()
	s := &Server{cfg: cfg, monitored: make(chan struct{})}
	if cfg.Cluster != nil {
		if err := cfg.Cluster.Check(); err != nil {
			return nil, err
		}
		electSooner()
		s.node = newNode(s)
	}
	if cfg.AcknowledgedFile != "" {
		if s.acked, err = openAcknowledged(cfg.AcknowledgedFile); err != nil {
			return nil, err
		}
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	s.cfg.Listen = s.current.Load().Addr().String() // a restart keeps the port
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	if err := s.serve(ctx); err != nil {
		stop()
		s.nc.Close() // nil will do
		s.shutdown()
		return nil, err
	}
	go s.monitor(ctx)
	go s.watchChecks(ctx)
	return s, nil
}

// serve answers for the store and, in a cluster, begins to work as a node.
func (s *Server) serve(ctx context.Context) (err error) {
	if s.nc, err = bus.Connect(s.Endpoint(userStore), s.cfg.Log); err != nil {
		return err
	}
	if err := bus.ServeCut(s.nc, s.cut); err != nil {
		return err
	}
	if err := serveSingles(s.nc); err != nil {
		return err
	}
	if s.node != nil {
		return s.node.start(ctx)
	}
	s.compareAcknowledged()
	return nil
}

func (s *Server) start() error {
	host, port, err := splitListen(s.cfg.Listen)
	if err != nil {
		return err
	}
	if err := adoptStore(s.cfg.StoreDir); err != nil {
		return err
	}
	if err := forgetIndex(s.cfg.StoreDir); err != nil {
		return err
	}
	opts := &natsserver.Options{}
	if err := opts.ProcessConfigString(configFile(s.cfg, isLoopback(host) && !s.cfg.Closed)); err != nil {
		return fmt.Errorf("configure the embedded NATS server: %w", err)
	}
	opts.Host, opts.Port = host, port
	opts.ServerName = "cairn"
	if s.cfg.Cluster != nil {
		opts.ServerName = s.cfg.Cluster.Node
	}
	opts.NoSigs = true // its signal handler would end the process
	opts.JetStream = true
	opts.StoreDir = s.cfg.StoreDir
	opts.JetStreamMaxStore = s.cfg.MaxStore
	opts.SyncAlways = true // the default syncs every two minutes
	opts.WriteDeadline = writeDeadline
	opts.MaxPending = maxPending
	opts.MaxConn = s.cfg.MaxConnections
	opts.DisableShortFirstPing = true
	opts.ReconnectErrorReports = routeReports
	if s.cfg.TLS != nil {
		opts.TLSConfig, opts.TLSTimeout = s.cfg.TLS, tlsTimeout.Seconds()
	}

	embedded, err := natsserver.NewServer(opts)
	if err != nil {
		return fmt.Errorf("make the embedded NATS server: %w", err)
	}
	logger := &serverLog{Logger: s.cfg.Log}
	embedded.SetLoggerV2(logger, false, false, false)
	slow := time.AfterFunc(slowStart, func() {
		s.cfg.Log.Warn("the queue's store is still being read", "store", s.cfg.StoreDir)
	})
	embedded.Start() // returns when the store is read
	slow.Stop()
	if logger.fatal.Load() != nil || !embedded.JetStreamEnabled() || !embedded.ReadyForConnections(listenTimeout) {
		embedded.Shutdown()
		return fmt.Errorf("the embedded NATS server did not start on %s with its store in %s: %s",
			s.cfg.Listen, s.cfg.StoreDir, logger.reason())
	}
	s.current.Store(embedded)
	return nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.cfg.Listen }

// InProcessConn is a connection without a socket, to the server that runs now.
func (s *Server) InProcessConn() (net.Conn, error) { return s.current.Load().InProcessConn() }

// Endpoint is how a role in this process reaches the server.
func (s *Server) Endpoint(user string) bus.Endpoint {
	return bus.Endpoint{User: user, Password: passwordOf(s.cfg, user), Local: s}
}

// Writer is what the ingest role of this process publishes events by.
func (s *Server) Writer() bus.Endpoint { return s.Endpoint(userWriter) }

// Close stops the server. What it acknowledged is on disk already.
func (s *Server) Close() {
	s.stop()
	<-s.monitored
	if s.node != nil {
		s.node.handOver()
		s.node.close()
	}
	s.nc.Close()
	whole := s.unhealthy() == nil
	s.shutdown()
	if whole {
		noteClosed(s.cfg.StoreDir)
	}
	if s.acked != nil {
		_ = s.acked.sync() // it need not be
		_ = s.acked.file.Close()
	}
}

// shutdown ends the embedded server. (Its lame duck mode, which sounds like what a
// cluster wants, takes two minutes and breaks connections: seen.)
func (s *Server) shutdown() {
	s.current.Load().Shutdown()
	s.current.Load().WaitForShutdown()
}

func splitListen(listen string) (string, int, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("the NATS address %q is not host:port: %w", listen, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < -1 || port > 65535 {
		return "", 0, fmt.Errorf("the NATS address %q has no port from 0 to 65535", listen)
	}
	if port == 0 {
		port = natsserver.RANDOM_PORT
	}
	return host, port, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkFree makes a taken port an error that says so: the server itself would
// only log it and continue without a listener.
func checkFree(host string, port int) error {
	if port == natsserver.RANDOM_PORT {
		return nil
	}
	address := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken by another program (another NATS server?): stop that, or choose another address with --nats-listen", address)
	}
	if err != nil {
		return fmt.Errorf("listen for NATS: %w", err)
	}
	return l.Close()
}
