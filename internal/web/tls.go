package web

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificateLook is how often, at most, it is seen whether the files have changed.
const certificateLook = 10 * time.Second

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
