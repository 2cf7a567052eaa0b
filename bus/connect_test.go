package bus_test

import (
	"testing"
	"time"

	"cairn/bus"
	"cairn/internal/testkit"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// A queue that others run may ask for a certificate; the first of its servers may be
// unreachable.
func TestConnectByCertificate(t *testing.T) {
	files := testkit.NewCertificate(t, t.TempDir())
	config, err := natsserver.GenTLSConfig(&natsserver.TLSConfigOpts{CertFile: files.Cert, KeyFile: files.Key, CaFile: files.CA, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, TLSConfig: config, TLSTimeout: 5, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(s.Shutdown)
	const startBound = 10 * time.Second
	if !s.ReadyForConnections(startBound) {
		t.Fatal("the server does not start")
	}
	for name, c := range map[string]struct {
		endpoint bus.Endpoint
		connects bool
	}{
		"with all of it":        {bus.Endpoint{CA: files.CA, Cert: files.Cert, Key: files.Key}, true},
		"without a certificate": {bus.Endpoint{CA: files.CA}, false},
		"without the authority": {bus.Endpoint{Cert: files.Cert, Key: files.Key}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.endpoint.URL = "tls://127.0.0.1:1," + s.ClientURL()
			nc, err := bus.Connect(c.endpoint, testkit.Log(t))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			const patience = 10 * time.Second
			if c.connects {
				testkit.Eventually(t, patience, "it is connected", nc.IsConnected)
				return
			}
			testkit.Eventually(t, patience, "it was refused", func() bool { return nc.LastError() != nil })
			if nc.IsConnected() {
				t.Error("it is connected")
			}
		})
	}
}
