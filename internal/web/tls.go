package web

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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

	mu      sync.Mutex
	pair    *tls.Certificate
	changed time.Time // the later of the files' times
	looked  time.Time
}

// LoadTLS reads a certificate with its chain, and its key, both as PEM.
func LoadTLS(certFile, keyFile string) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if err := c.load(time.Now()); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(time.Now()), nil },
	}, nil
}

// current is the pair as the files have it. One that cannot be read, because its
// files are being replaced, leaves the one before.
func (c *certificate) current(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) >= certificateLook {
		_ = c.load(now)
	}
	return c.pair
}

func (c *certificate) load(now time.Time) error {
	c.looked = now
	changed, err := latest(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	if c.pair != nil && changed.Equal(c.changed) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read the certificate %s with its key %s: %w", c.certFile, c.keyFile, err)
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

// latest is when the last of the files was changed.
func latest(files ...string) (out time.Time, err error) {
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return out, err
		}
		if info.ModTime().After(out) {
			out = info.ModTime()
		}
	}
	return out, nil
}
