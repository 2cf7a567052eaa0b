package testkit

import (
	"testing"

	"cairn/bus"
)

// maxStore is room for any test's stream, in bytes.
const maxStore = 1 << 30

// NATS starts an embedded server with a store of its own, on a free port, until
// the test ends.
func NATS(t testing.TB) *bus.Server {
	t.Helper()
	passwords := map[string]string{}
	for _, user := range bus.Users {
		passwords[user] = user + "-secret"
	}
	s, err := bus.StartServer(bus.ServerConfig{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), MaxStore: maxStore,
		Passwords: passwords, Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
