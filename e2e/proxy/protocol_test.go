//go:build e2eproxy

package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A HAProxy that passes connections on as they are, and says whose they are by the PROXY
// protocol, as with TLS that is not its to end.
const passOn = `
global
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen cairn
    bind %s
    server cairn %s %s check
`

// The clients of a connection that HAProxy passes on are told from each other by the
// PROXY protocol: in the log, and in what each may have.
func TestProxyProtocol(t *testing.T) {
	s := testrig.Command{Program: cairn, Args: []string{"ingest", "--listen", testrig.FreePort(t), "--nats-listen", testrig.AnyPort,
		"--data", testkit.Folder(t), "--trusted-proxies", "127.0.0.1", "--proxy-protocol"}}.Listen(t)
	for n, send := range []string{"send-proxy", "send-proxy-v2"} {
		t.Run(send, func(t *testing.T) {
			listen := testrig.FreePort(t)
			config := filepath.Join(t.TempDir(), "haproxy.cfg")
			text := fmt.Sprintf(passOn, listen, strings.TrimPrefix(s.Base, "http://"), send)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			testrig.Command{Program: "haproxy", Args: []string{"-db", "-f", config}}.Start(t)
			from := fmt.Sprintf("127.0.7.%d", n+1)
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					return dialer.DialContext(ctx, network, address)
				}}}
			testkit.Eventually(t, patience, "it passes a request on", func() bool {
				a, err := client.Get("http://" + listen + "/livez")
				if err != nil {
					return false
				}
				_ = a.Body.Close()
				return a.StatusCode == http.StatusOK
			})
			testkit.Eventually(t, patience, "the log tells whose it was", func() bool {
				return strings.Contains(s.Stderr.String(), "path=/livez status=200") && strings.Contains(s.Stderr.String(), "from="+from+":")
			})
		})
	}
}
