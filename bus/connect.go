package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// reconnectWait is the pause between attempts to reach a server that is unreachable.
	reconnectWait = 250 * time.Millisecond
	// pingEvery and pingsLost bound, to 20 s, the time until a connection that was
	// lost silently (a firewall dropped it, a machine is gone) is noticed. The
	// client's defaults are six minutes, during which a projector would wait.
	pingEvery = 5 * time.Second
	pingsLost = 2
	// clusterPing is the same for who can go to another server instead: 3 s.
	clusterPing = time.Second
)

// An Endpoint is how a role reaches the NATS server.
type Endpoint struct {
	// URL of the server, nats://host:port; several are separated by commas.
	// It may carry user:password@, which wins over the fields.
	URL      string
	User     string
	Password string
	// Credentials, where it is not nil, is asked for user and password at every
	// attempt to connect: they may come to be after the role has started.
	Credentials func() (user, password string)
	// CredentialsFile has a JWT and its key, for servers that ask for them; CA, Cert
	// and Key are PEM files: whom to believe that it is the server, and what to show
	// it. Empty: none.
	CredentialsFile, CA, Cert, Key string
	// Local, where it is not nil, is a server in this process.
	Local Local
}

// A Local is a server in this process: reached without a socket, and able to say
// more than the protocol does.
type Local interface {
	nats.InProcessConnProvider
	// Writer is what events are published by.
	Writer() Endpoint
	// Refusal says why the server takes no writes now, or nil.
	Refusal() error
	// Acknowledged notes, before the answer, that a message is on disk.
	Acknowledged(sequence uint64)
	// DiskFree is how many bytes are free under its store; 0: not known.
	DiskFree() int64
	// Replicas is how many copies its cluster keeps; 1: it is alone.
	Replicas() int
	// Leads reports whether it is the one of its cluster that does what only one
	// should do.
	Leads() bool
	// Joined says why it is not to count as ready yet, or nil.
	Joined() error
}

// Writer is what events are published by: a shorter way, where the server is in this
// process.
func (e Endpoint) Writer() Endpoint {
	if e.Local == nil {
		return e
	}
	return e.Local.Writer()
}

// Refusal says why the server takes no writes now, where this process knows.
func (e Endpoint) Refusal() error {
	if e.Local == nil {
		return nil
	}
	return e.Local.Refusal()
}

// DiskFree is how many bytes are free under the server's store, or 0 where this
// process does not know.
func (e Endpoint) DiskFree() int64 {
	if e.Local == nil {
		return 0
	}
	return e.Local.DiskFree()
}

// Acknowledged notes what is acknowledged, where this process has the store.
func (e Endpoint) Acknowledged(sequence uint64) {
	if e.Local != nil {
		e.Local.Acknowledged(sequence)
	}
}

// Replicas is how many copies of the stream there are to be, where this process
// knows; else 1.
func (e Endpoint) Replicas() int {
	if e.Local == nil {
		return 1
	}
	return e.Local.Replicas()
}

// Leads reports whether this process should do what only one should; see [Local].
func (e Endpoint) Leads() bool { return e.Local == nil || e.Local.Leads() }

// Joined says why this process' server is not to count as ready, or nil.
func (e Endpoint) Joined() error {
	if e.Local == nil {
		return nil
	}
	return e.Local.Joined()
}

// Several reports whether there is another server to go to.
func (e Endpoint) Several() bool { return strings.Contains(e.URL, ",") }

// Connect returns a connection that lives until it is closed: it need not
// succeed at first, and recovers on its own for as long as it takes.
// While there is no server, a publish fails at once rather than wait in memory.
func Connect(e Endpoint, log *slog.Logger, opts ...nats.Option) (*nats.Conn, error) {
	var told atomic.Int64 // when, in nanoseconds since 1970
	return connect(e, log, func(err error) {
		now, before := time.Now().UnixNano(), told.Load()
		if now-before >= int64(unreachedEvery) && told.CompareAndSwap(before, now) {
			log.Warn("the queue is not reachable; trying again", "address", e.Address(), "user", e.User, "error", err)
		}
	}, opts...)
}

// unreachedEvery is the least time between two warnings that no server is reached:
// attempts are several a second.
const unreachedEvery = time.Minute

// connect tells failed of each attempt that failed.
func connect(e Endpoint, log *slog.Logger, failed func(error), opts ...nats.Option) (*nats.Conn, error) {
	ping := pingEvery
	if e.Several() {
		ping = clusterPing
	}
	opts = append(opts,
		nats.Name("cairn "+e.User),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(ping),
		nats.MaxPingsOutstanding(pingsLost),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if !errors.Is(err, nats.ErrNoServers) { // the next attempt says why
				failed(err)
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("lost the NATS server", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			// A denied publish shows here and nowhere else.
			log.Error("NATS refused something", "error", err)
		}),
	)
	switch {
	case e.CredentialsFile != "":
		opts = append(opts, nats.UserCredentials(e.CredentialsFile))
	case e.Credentials != nil:
		opts = append(opts, nats.UserInfoHandler(e.Credentials))
	default:
		opts = append(opts, nats.UserInfo(e.User, e.Password))
	}
	if e.CA != "" {
		opts = append(opts, nats.RootCAs(e.CA))
	}
	if e.Cert != "" {
		opts = append(opts, nats.ClientCert(e.Cert, e.Key))
	}
	if e.Local != nil {
		opts = append(opts, nats.InProcessServer(e.Local))
	}
	nc, err := nats.Connect(e.URL, opts...)
	if err != nil {
		if errors.Is(err, nats.ErrNoServers) {
			err = fmt.Errorf("no server at %s", e.Address())
		}
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}
