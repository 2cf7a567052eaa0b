package web

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateLook is how often, at most, it is seen whether the files have changed. A
// variable for tests.
var certificateLook = 10 * time.Second

// A certificate is read from its files again when they change, so that its renewal
// needs no restart.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	changed [2]int64 // of the files, in Unix nanoseconds
	looked  time.Time
	failed  string // what was logged of the last look
}

// LoadTLS reads a certificate with its chain, and its key, both as PEM.
func LoadTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(time.Now()); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(time.Now()), nil },
	}, nil
}

// current is the pair as the files have it. One that cannot be read leaves the one
// before: its files may be about to be replaced. The log tells, or it would be noticed
// only when the one before expires.
func (c *certificate) current(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) >= certificateLook {
		err := c.load(now)
		switch {
		case err == nil:
			c.failed = ""
		case err.Error() != c.failed:
			c.failed = err.Error()
			c.log.Warn("the new certificate cannot be used; the one before still is", "error", err)
		}
	}
	return c.pair
}

func (c *certificate) load(now time.Time) error {
	c.looked = now
	var changed [2]int64 // of each, since one that comes from elsewhere may be older than the other
	for i, file := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("read the certificate: %w", err)
		}
		changed[i] = info.ModTime().UnixNano()
	}
	if c.pair != nil && changed == c.changed {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read the certificate %s with its key %s: %w", c.certFile, c.keyFile, err)
	}
	if c.pair != nil {
		c.log.Info("a new certificate is used", "file", c.certFile, "expires", pair.Leaf.NotAfter)
	}
	c.pair, c.changed = &pair, changed
	return nil
}

// plainAnswer is for who speaks HTTP where HTTPS is spoken.
const plainAnswer = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/problem+json\r\n\r\n" +
	`{"status":400,"title":"Bad Request","detail":"this port speaks HTTPS: begin the URL with https://"}` + "\n"

// answerPlain says so, where the failure of a handshake is that.
func answerPlain(err error) {
	var plain tls.RecordHeaderError
	if !errors.As(err, &plain) || plain.Conn == nil {
		return
	}
	switch string(plain.RecordHeader[:4]) {
	case "GET ", "HEAD", "POST", "PUT ", "PATC", "DELE", "OPTI":
		_ = plain.Conn.SetWriteDeadline(time.Now().Add(lingerTimeout))
		_, _ = io.WriteString(plain.Conn, plainAnswer) // it is refused either way
	}
}
