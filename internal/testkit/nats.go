package testkit

import (
	"strings"
	"testing"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/event"

	"github.com/nats-io/nats.go/jetstream"
)

// maxStore is room for any test's stream and what is beside it, in bytes: twice the
// largest stream, as serve gives its own.
const maxStore = 2 << 30

// NATS starts an embedded server with a store of its own, on a free port, until
// the test ends.
func NATS(t testing.TB) *server.Server {
	t.Helper()
	passwords := map[string]string{}
	for _, user := range bus.Users {
		passwords[user] = user + "-secret"
	}
	s, err := server.Start(server.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), MaxStore: maxStore,
		Passwords: passwords, Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// JetStream connects to the server as the user, until the test ends.
func JetStream(t testing.TB, s *server.Server, user string) jetstream.JetStream {
	t.Helper()
	nc, err := bus.Connect(s.Endpoint(user), Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Publish hands lines to the collector and waits until they are on disk.
func Publish(t testing.TB, c *bus.Collector, lines string) (event.Position, error) {
	t.Helper()
	b := bus.NewBatch()
	defer b.Release()
	b.Lines, b.Count = append(b.Lines, lines...), strings.Count(lines, "\n")
	if err := c.Enqueue(t.Context(), b); err != nil {
		return 0, err
	}
	return b.Wait()
}
