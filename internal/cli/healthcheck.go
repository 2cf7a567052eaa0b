package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthTimeout is less than what container engines give a health check.
const healthTimeout = 2 * time.Second

// maxHealthBytes is more than any answer to GET /readyz has.
const maxHealthBytes = 4 << 10

// healthcheckCmd is for images without a shell or curl: the container's health
// check is the program itself, and reads the address that the role was given.
type healthcheckCmd struct {
	Listen  string `default:"127.0.0.1:8080" env:"CAIRN_LISTEN" placeholder:"HOST:PORT" help:"Where the role in this container listens (${default})."`
	TLSCert string `name:"tls-cert" env:"CAIRN_TLS_CERT" hidden:""`
}

func (c *healthcheckCmd) Run(s *session) error {
	text, err := askReady(s.ctx, c.TLSCert != "", c.Listen)
	if err != nil {
		return err
	}
	_, err = io.WriteString(s.stdout, text)
	return err
}

// askReady asks what listens there for GET /readyz.
func askReady(ctx context.Context, encrypted bool, listen string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	scheme, asker := "http://", http.DefaultClient
	if encrypted {
		// It asks this very machine, whose name may be on no certificate.
		scheme, asker = "https://", &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // see above
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+listenHost(listen)+"/readyz", nil)
	if err != nil {
		return "", usagef("--listen %q is not host:port", listen)
	}
	response, err := asker.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxHealthBytes)) // for people
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("not ready: %s", strings.TrimSpace(string(text)))
	}
	return string(text), nil
}
