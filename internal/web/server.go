// Package web is the HTTP server that every role shares: listening and
// draining, problem details, health, metrics and the request log. It knows
// nothing of points.
//
// A Server answers from the moment it listens: /livez at once, everything else
// with 503 until the role that owns it is mounted.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/valyala/fasthttp"

	"cairn/internal/auth"
)

const (
	// headTimeout bounds the time from a request's first byte to the end of
	// its head and of the body's first 8 KiB: 300 B/s on a bad radio link.
	headTimeout = 30 * time.Second
	// idleTimeout is longer than the 60 s that proxies keep idle connections,
	// so that it is they who close.
	idleTimeout = 75 * time.Second
	// maxHeadBytes bounds a request's line and header fields.
	maxHeadBytes = 16 << 10
	// prefetchBytes is what fasthttp may read of a body before the handler
	// runs; the handlers bound bodies themselves.
	prefetchBytes = 64 << 10
	// drainTimeout bounds the end of the requests in flight at a stop.
	drainTimeout = 15 * time.Second
)

// liveHeap is what the last collection of garbage left: what a leak makes grow, while
// memory that is resident may be garbage, or waits to be given back.
var liveHeap = regexp.MustCompile("^/gc/heap/live:bytes$")

// Config says how to listen.
type Config struct {
	Listen  string // host:port
	Version string
	Log     *slog.Logger
	// MaxConnections bounds them; 0: what the limit of open files leaves.
	MaxConnections int
	// Proxies are those whose word on a client is taken; nil: those on this machine
	// and in private networks.
	Proxies Proxies
	// ProxyProtocol lets the proxies name the client of a connection by the PROXY
	// protocol, versions 1 and 2.
	ProxyProtocol bool
	// TLS is for HTTPS; nil: HTTP.
	TLS *tls.Config
	// Access identifies the caller; nil: nobody is asked who they are.
	Access *auth.Authority
	// Origins are those whose pages may write.
	Origins Origins
	// DrainWait is how long it serves on after a stop was asked for, while /readyz says
	// that it is stopping: until proxies have noticed.
	DrainWait time.Duration
}

// A Role is what one part of Cairn answers.
type Role struct {
	Name   string
	Routes []Route
	// Ready says why the role can answer nothing correct, not even a refusal.
	Ready func() error
	// Status is the role's part of GET /status.
	Status func(context.Context) any
}

// A Server listens on one address for one or more roles.
type Server struct {
	cfg      Config
	listener net.Listener
	conns    *connections
	fast     *fasthttp.Server
	registry *prometheus.Registry
	metrics  *requestMetrics

	mu         sync.Mutex
	roles      []Role
	mounted    chan struct{} // closed and recreated when a role is mounted
	operations []Operation
	publicURL  string
	needs      []need
	handler    atomic.Pointer[fasthttp.RequestHandler]
	expected   int
	leaving    atomic.Bool     // a stop was asked for
	stopping   context.Context //nolint:containedctx // ends when the server begins to drain
	drain      context.CancelFunc
}

// Listen binds the address. The roles that will be mounted are counted, so that
// /readyz says no until all are.
func Listen(cfg Config, roles int) (*Server, error) {
	l, err := net.Listen("tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another program: stop that, or choose another address with --listen", cfg.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	conns := newConnections(cfg.MaxConnections, cfg.Proxies, cfg.Log)
	conns.passedOn = cfg.ProxyProtocol
	s := &Server{cfg: cfg, listener: &listener{Listener: l, conns: conns, encrypted: cfg.TLS}, conns: conns, expected: roles, registry: prometheus.NewRegistry(), mounted: make(chan struct{})}
	s.stopping, s.drain = context.WithCancel(context.Background())
	s.registry.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: liveHeap})), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.metrics = newRequestMetrics(s.registry)
	conns.register(s.registry)
	s.fast = &fasthttp.Server{
		Handler:                      s.handle,
		ErrorHandler:                 s.refuseHead,
		NoDefaultServerHeader:        true,
		StreamRequestBody:            true,
		MaxRequestBodySize:           prefetchBytes,
		DisablePreParseMultipartForm: true,
		ReadBufferSize:               maxHeadBytes,
		ReadTimeout:                  headTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		CloseOnShutdown:              true,
		KeepHijackedConns:            true, // see Detach
		Logger:                       fastLog{cfg.Log},
	}
	s.rebuild()
	return s, nil
}

func (s *Server) handle(c *fasthttp.RequestCtx) {
	if s.cfg.Access != nil {
		takeKey(c)
	}
	if conn, ok := c.Conn().(*conn); ok {
		conn.caller, conn.varies = nil, false // who asked before
		conn.noteFields(&c.Request.Header)
	}
	if !slices.Contains(methodsKnown, string(c.Method())) {
		c.Request.Header.SetMethod(methodOther)
	}
	(*s.handler.Load())(c)
}

// methodOther stands for every method that no route has: fiber answers those that it
// does not know without a look at the routes.
const methodOther = "OTHER"

var methodsKnown = append(slices.Clone(fiber.DefaultMethods), methodOther)

// Addr is where the server listens, with the port that the system chose where
// the configuration said 0.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Access identifies the caller; nil: nobody is asked who they are.
func (s *Server) Access() *auth.Authority { return s.cfg.Access }

// Stopping ends when the server begins to drain: what may last long should come
// to an end then.
func (s *Server) Stopping() context.Context { return s.stopping }

// SetPublicURL says where clients reach the server, without a slash at its end; where
// it is not said the requests tell it. It is called before a role is mounted.
func (s *Server) SetPublicURL(url string) { s.publicURL = url }

// Unsent is how many bytes of large answers clients have not read yet.
func (s *Server) Unsent() int { return int(s.conns.unsent.Load()) }

// Version is that of the program.
func (s *Server) Version() string { return s.cfg.Version }

// Registry takes the role's metrics.
func (s *Server) Registry() prometheus.Registerer { return s.registry }

// Mount adds a role's routes. They answer from now on.
func (s *Server) Mount(r Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles = append(s.roles, r)
	s.rebuild()
	close(s.mounted)
	s.mounted = make(chan struct{})
}

// rebuild makes a new fiber app of the roles so far and swaps it in: fiber's
// routes cannot change under traffic.
func (s *Server) rebuild() {
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true,
		CaseSensitive:         true,
		RequestMethods:        methodsKnown,
		ErrorHandler:          func(c *fiber.Ctx, err error) error { return writeProblem(c, problemOf(err)) },
	})
	app.Use(s.observe)
	// A handler that panics is a bug, but one request's, not the process'.
	app.Use(recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: func(c *fiber.Ctx, e any) {
		s.cfg.Log.Error("panic", "path", c.Path(), "panic", e, "stack", string(debug.Stack()))
	}}))
	// Counted now: a request that this app began must not find, at its end, that
	// the role it asks for is mounted, in the next app.
	complete := len(s.roles) == s.expected
	routes := s.health(slices.Clone(s.roles), slices.Clone(s.needs))
	for _, r := range s.roles {
		routes = append(routes, r.Routes...)
	}
	paths := tableOf(routes)
	app.Use(func(c *fiber.Ctx) error { return s.noRoute(c, c.Next(), complete, paths) })
	s.mount(app, routes, paths)
	s.operations = operationsOf(app)
	handler := app.Handler()
	s.handler.Store(&handler)
}

// noRoute says what fiber says where no route is: nothing at this path, or not
// by this method (RFC 9110, section 15.5.6; fiber has set Allow). Until all roles
// are mounted that is not known.
func (s *Server) noRoute(c *fiber.Ctx, err error, complete bool, paths pathTable) error {
	var f *fiber.Error
	switch {
	case !errors.As(err, &f) || f.Code != http.StatusNotFound && f.Code != http.StatusMethodNotAllowed:
		return err
	case !complete && WantsEvents(c):
		c.Response().Header.Del(fiber.HeaderAllow)
		return s.holdEvents(c)
	case !complete:
		c.Response().Header.Del(fiber.HeaderAllow)
		return Unavailable("starting", time.Second)
	case f.Code == http.StatusMethodNotAllowed:
		if m := paths.own(c); m != nil {
			c.Set(fiber.HeaderAllow, m.allow())
		}
		return notAllowed(c)
	}
	return &Problem{Status: f.Code, Detail: "there is nothing at " + c.Path()}
}

// notAllowed says what the path takes, as Allow has it already.
func notAllowed(c *fiber.Ctx) *Problem {
	method := c.Method()
	if method == methodOther {
		method = "this method"
	}
	return &Problem{Status: http.StatusMethodNotAllowed, Detail: fmt.Sprintf("%s does not take %s, only %s", c.Path(), method, c.GetRespHeader(fiber.HeaderAllow))}
}

// Run serves until ctx ends, then lets the requests in flight finish. It
// returns nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.fast.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	s.leaving.Store(true)
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP on %s: %w", s.Addr(), err)
	case <-time.After(s.cfg.DrainWait):
	}
	s.drain()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := s.fast.ShutdownWithContext(bounded); err != nil {
		return fmt.Errorf("requests were still running %v after the stop: %w", drainTimeout, err)
	}
	<-served
	return nil
}

// refuseHead answers what never became a request.
func (s *Server) refuseHead(c *fasthttp.RequestCtx, err error) {
	// What the client sent is not said again: a log or a page might take it for ours.
	p := BadRequest("the request's head cannot be read")
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	var refused *Problem
	switch {
	case errors.As(failureOf(c), &refused):
		p = refused
	case errors.As(err, &small):
		p = headTooLarge()
	case errors.As(err, &timeout) && timeout.Timeout():
		p = &Problem{Status: http.StatusRequestTimeout, Detail: fmt.Sprintf("the request did not arrive within %v", headTimeout)}
	}
	body, _ := p.MarshalJSON() // strings and numbers only
	c.SetStatusCode(p.Status)
	c.SetContentType("application/problem+json")
	c.Response.Header.SetCanonical(fieldTypeOptions, noSniff)
	c.SetBody(body)
	c.SetConnectionClose()
}

// failureOf is why nothing more can be read of the request's connection.
func failureOf(c *fasthttp.RequestCtx) error {
	if conn, ok := c.Conn().(*conn); ok {
		return conn.failure
	}
	return nil
}

// fastLog passes on what fasthttp says, which is about single connections.
type fastLog struct{ *slog.Logger }

func (l fastLog) Printf(format string, args ...any) {
	l.Debug("connection", "detail", fmt.Sprintf(format, args...))
}
