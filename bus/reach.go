package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// reachTimeout bounds how long a command waits for the queue: it may have been started
// a moment before.
const reachTimeout = 10 * time.Second

// dialTimeout bounds a look whether anything listens where the queue should be.
const dialTimeout = time.Second

// Reach connects as [Connect] does, for a command, which cannot wait for as long as it
// takes: where no server answers in time, it says where it looked, why that failed, and
// how to name another. A wrong password will not get better, so it does not wait then.
func Reach(ctx context.Context, e Endpoint, log *slog.Logger) (*nats.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	var last atomic.Pointer[error]
	nc, err := connect(e, log, func(err error) {
		last.Store(&err)
		if errors.Is(err, nats.ErrAuthorization) {
			cancel()
		}
	})
	if err != nil {
		return nil, err
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		nc.Close()
		if why := last.Load(); why != nil {
			err = *why
		} else if why := dial(e); why != nil {
			err = why
		}
		return nil, unreachable(e, err)
	}
	return nc, nil
}

// dial says why nothing can be reached at the endpoint's first address, or nil.
func dial(e Endpoint) error {
	first, _, _ := strings.Cut(e.URL, ",")
	u, err := url.Parse(strings.TrimSpace(first))
	if err != nil {
		return nil //nolint:nilerr // what is wrong with it others say
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), strconv.Itoa(nats.DefaultPort))
	}
	conn, err := net.DialTimeout("tcp", host, dialTimeout)
	if err != nil {
		return err
	}
	return conn.Close()
}

func unreachable(e Endpoint, err error) error {
	if errors.Is(err, nats.ErrAuthorization) {
		return fmt.Errorf("the queue at %s refuses the user %s: %w. Its passwords are in the data folder of the Cairn that runs it: name that with --data, or give them with --nats-passwords (CAIRN_NATS_PASSWORDS); if another Cairn's queue is meant, name that with --nats-url (NATS_URL)",
			e.Address(), e.User, err)
	}
	return fmt.Errorf("the queue is not reachable at %s: %w. If it listens elsewhere (--nats-listen of the Cairn that runs it), name that with --nats-url (NATS_URL)",
		e.Address(), err)
}

// Address is where the queue is looked for, without passwords.
func (e Endpoint) Address() string {
	parts := strings.Split(e.URL, ",")
	for i, part := range parts {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Host == "" {
			parts[i] = part[strings.LastIndex(part, "@")+1:]
			continue
		}
		u.User = nil
		parts[i] = u.String()
	}
	return strings.Join(parts, ", ")
}
