package server_test

import (
	"net"
	"testing"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/internal/testkit"
	"cairn/internal/web"

	"github.com/nats-io/nats.go"
)

// With a certificate nobody speaks to the queue's port in the clear, whoever checks it
// is let in, and this process' own connections need none.
func TestEncryptedPort(t *testing.T) {
	c := testkit.NewCertificate(t, t.TempDir())
	encrypted, err := web.LoadTLS(c.Cert, c.Key, testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	encrypted.NextProtos = nil
	passwords := map[string]string{}
	for _, user := range bus.Users {
		passwords[user] = user + "-secret"
	}
	s, err := server.Start(server.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), MaxStore: 1 << 30, Passwords: passwords, TLS: encrypted, Log: testkit.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	remote := bus.Endpoint{URL: "nats://" + s.Addr(), User: bus.UserQuery, Password: passwords[bus.UserQuery], CA: c.CA}
	for name, endpoint := range map[string]bus.Endpoint{"its own": s.Endpoint(bus.UserQuery), "with the authority": remote} {
		nc, err := bus.Connect(endpoint, testkit.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 10*time.Second, name+" is connected", func() bool { return nc.IsConnected() })
		if state, err := nc.TLSConnectionState(); name != "its own" && (err != nil || !state.HandshakeComplete) {
			t.Errorf("%s: %v", name, err)
		}
		nc.Close()
	}
	user := nats.UserInfo(bus.UserQuery, passwords[bus.UserQuery])
	if nc, err := nats.Connect("nats://"+s.Addr(), user); err == nil {
		nc.Close()
		t.Error("whoever does not know the authority believes the server")
	}
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	buffer := make([]byte, 4<<10)
	if _, err := conn.Read(buffer); err != nil { // INFO
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("CONNECT {\"user\":\"query\",\"pass\":\"query-secret\"}\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return // cut off
		}
		if got := string(buffer[:n]); got == "PONG\r\n" {
			t.Fatal("it answers in the clear")
		}
	}
}
