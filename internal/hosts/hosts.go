// Package hosts connects to the servers of a DATABASE_URL that names several: a
// primary and its standbys, one of which may be the primary a moment later.
//
// Writers connect to the server that accepts writes, whatever target_session_attrs
// in the URL says, so that one URL serves all roles. A [Lineage] orders the successive
// primaries of a cluster: a server whose lineage is older than the newest that was
// [Seen] is a former primary, and is not used, even if it answers first.
package hosts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// hostTimeout bounds an attempt to reach one of several servers: one that is
	// switched off answers nothing, and the next may have been promoted.
	hostTimeout = 1500 * time.Millisecond
	// silentAfter is how long what was sent to a server may stay unconfirmed by its
	// system, and probeAfter and probeEvery when and how often one that says
	// nothing is asked whether it is still there.
	silentAfter            = 6 * time.Second
	probeAfter, probeEvery = 3 * time.Second, time.Second
)

// Several reports whether the URL names more than one server.
func Several(cfg *pgconn.Config) bool {
	for _, f := range cfg.Fallbacks {
		if f.Host != cfg.Host || f.Port != cfg.Port { // else it is the same one, without TLS
			return true
		}
	}
	return false
}

// Writer makes the configuration of a connection that writes, under a name that
// Postgres' own views show. It reaches the server that takes writes, and none that
// seen (which may be nil) knows to be a primary of before.
func Writer(url, name string, timeout time.Duration, seen *Seen) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the database URL: %w", err)
	}
	ToWrite(&cfg.Config, name, timeout, seen)
	return cfg, nil
}

// ToWrite is [Writer] for a configuration that was read before.
func ToWrite(cfg *pgconn.Config, name string, timeout time.Duration, seen *Seen) {
	if name != "" {
		cfg.RuntimeParams["application_name"] = name
	}
	Hasten(cfg, timeout)
	cfg.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn); err != nil {
			return fmt.Errorf("it takes no writes, as a standby or a primary of before: %w", err)
		}
		return seen.check(ctx, conn)
	}
}

// ToRead lets a reader's connections reach the servers that the URL asks for, but
// none that seen knows to be a primary of before. A URL that asks for a session that
// can write asks for the primary: sessions of readers never can.
func ToRead(cfg *pgconn.Config, url string, timeout time.Duration, seen *Seen) {
	Hasten(cfg, timeout)
	wanted := cfg.ValidateConnect
	if attributesOf(url) == "read-write" {
		wanted = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	cfg.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		// First, because a server that is not preferred may be taken in the end.
		if err := seen.check(ctx, conn); err != nil {
			return err
		}
		if wanted == nil {
			return nil
		}
		return wanted(ctx, conn)
	}
}

// attributesOf is what the URL, or the environment, says of the server that it wants.
func attributesOf(url string) string {
	const name = "target_session_attrs"
	for _, part := range strings.FieldsFunc(url, func(r rune) bool { return r == '?' || r == '&' || r == ' ' || r == '\n' || r == '\t' }) {
		if key, value, ok := strings.Cut(part, "="); ok && strings.TrimSpace(key) == name {
			return strings.Trim(value, "' ")
		}
	}
	return os.Getenv("PGTARGETSESSIONATTRS")
}

// Hasten makes a connection notice soon that its server is gone, also where that
// says nothing any more.
func Hasten(cfg *pgconn.Config, timeout time.Duration) {
	if Several(cfg) {
		timeout = min(timeout, hostTimeout)
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > timeout {
		cfg.ConnectTimeout = timeout
	}
	dialer := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeEvery, Count: int((silentAfter - probeAfter) / probeEvery)},
		Control: func(network, _ string, c syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = endAfter(int(fd), silentAfter)
			})
			return errors.Join(err, failed)
		},
	}
	cfg.DialFunc = dialer.DialContext
}

// Each is a configuration for each server that the URL names, in its order.
func Each(cfg *pgx.ConnConfig) []*pgx.ConnConfig {
	all := []*pgx.ConnConfig{only(cfg, cfg.Host, cfg.Port, cfg.TLSConfig)}
	for _, f := range cfg.Fallbacks {
		if last := all[len(all)-1]; f.Host != last.Host || f.Port != last.Port {
			all = append(all, only(cfg, f.Host, f.Port, f.TLSConfig))
		} else { // the same, without TLS or with it
			last.Fallbacks = append(last.Fallbacks, f)
		}
	}
	return all
}

func only(cfg *pgx.ConnConfig, host string, port uint16, encrypted *tls.Config) *pgx.ConnConfig {
	one := cfg.Copy()
	one.Host, one.Port, one.TLSConfig, one.Fallbacks = host, port, encrypted, nil
	return one
}
