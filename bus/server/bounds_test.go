package server_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/internal/testkit"

	"github.com/nats-io/nats.go"
)

// Who has no password cannot have the server keep much in memory for him: neither by
// what a request asks for, nor by what he does not read, nor by how many he is.
func TestInspectIsBounded(t *testing.T) {
	q := newQueueOfTwo(t)
	t.Run("a request", func(t *testing.T) {
		nc := q.connect(t, bus.UserInspect)
		for body, want := range map[string]string{
			`{"seq":1}`:                      `{"id":0}`,
			`{"next_by_subj":">","seq":2}`:   `{"id":1}`,
			`{"last_by_subj":"points.>"}`:    `{"id":2}`,
			`{"seq":999}`:                    "404",
			`{"batch":2,"seq":1}`:            "408",
			`{"BATCH":2,"seq":1}`:            "408",
			`{"batch":1,"next_by_subj":">"}`: "408",
			`{"multi_last":["points.>"]}`:    "408",
			`{"seq":1,"max_bytes":999999}`:   "408",
			`{`:                              "408",
			``:                               "408",
		} {
			sub, err := nc.SubscribeSync(nc.NewRespInbox())
			if err != nil {
				t.Fatal(err)
			}
			if err := nc.PublishRequest("$JS.API.DIRECT.GET.POINTS", sub.Subject, []byte(body)); err != nil {
				t.Fatal(err)
			}
			m, err := sub.NextMsg(patience)
			if err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			if got := string(m.Data) + m.Header.Get("Status"); got != want {
				t.Errorf("%s: %q, want %q", body, got, want)
			}
			if m, err := sub.NextMsg(20 * time.Millisecond); err == nil {
				t.Errorf("%s: %q besides", body, m.Data)
			}
			_ = sub.Unsubscribe()
		}
	})
	t.Run("connections", func(t *testing.T) {
		const most = 16
		for range most {
			_ = q.connect(t, bus.UserInspect)
		}
		testkit.Eventually(t, patience, "more to be refused", func() bool { // one of the test above may still be counted, or not
			nc, err := nats.Connect("nats://" + q.server.Addr())
			if err == nil {
				t.Cleanup(nc.Close)
			}
			return err != nil && strings.Contains(err.Error(), "maximum account active connections")
		})
		if nc := q.connect(t, bus.UserIngest); !nc.IsConnected() {
			t.Error("a role is kept out by those who only look")
		}
	})
}

// A client that does not read is cut when some megabytes wait for it.
func TestSlowReadersAreCut(t *testing.T) {
	q := newQueueOfTwo(t)
	large := strings.Repeat("x", 500_000)
	writer := testkit.JetStream(t, q.server, bus.UserIngest)
	ack, err := writer.Publish(t.Context(), bus.Subject, []byte(large))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", q.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(1 << 10)
	body := fmt.Sprintf(`{"seq":%d}`, ack.Sequence)
	fmt.Fprint(conn, "CONNECT {\"verbose\":false}\r\nSUB _INBOX.x 1\r\n")
	// 100 MB in all, of which 16 MiB may wait.
	for range 200 {
		fmt.Fprintf(conn, "PUB $JS.API.STREAM.MSG.GET.POINTS _INBOX.x %d\r\n%s\r\n", len(body), body)
	}
	// That is noted at once, and done when the write that is under way is given up.
	testkit.Eventually(t, 4*patience, "it to be cut", func() bool {
		_, err := fmt.Fprint(conn, "PING\r\n")
		return err != nil
	})
}

// Silent connections do not use up what others need.
func TestConnectionsAreBounded(t *testing.T) {
	const most = 40
	passwords := map[string]string{}
	for _, user := range bus.Users {
		passwords[user] = user
	}
	s, err := server.Start(server.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), MaxStore: 1 << 30, Log: testkit.Log(t), Passwords: passwords, Closed: true, MaxConnections: most})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conns := make([]net.Conn, 2*most)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", s.Addr()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	refused := 0
	for _, conn := range conns { // until the server has had enough of their silence
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if said, _ := io.ReadAll(conn); strings.Contains(string(said), "maximum connections exceeded") {
			refused++
		}
	}
	if refused < most {
		t.Errorf("%d are refused, want %d at least", refused, most)
	}
	testkit.Eventually(t, patience, "a role to connect when those who said nothing are cut", func() bool {
		nc, err := nats.Connect("nats://"+s.Addr(), nats.UserInfo(bus.UserIngest, bus.UserIngest))
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}
