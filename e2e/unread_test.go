package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn/internal/testrig"
)

// maxUnread is how much memory clients may cost, in bytes, that ask for much and read
// nothing.
const maxUnread = 300 << 20

// askAndReadNothing sends a request whose answer is left in the socket.
func askAndReadNothing(t *testing.T, s *testrig.Server, target string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.Base, "http://"), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
	return conn
}

// Pages and streams that nobody reads are bounded in memory; who reads is served
// meanwhile.
func TestUnreadAnswers(t *testing.T) {
	const rows, pages, streams = 48, 120, 100 // of 250 kB: a page is as large as one gets
	s := serve(t, testrig.PreparedFolder(t))
	var body strings.Builder
	for i := range rows {
		fmt.Fprintf(&body, `{"longitude":%d,"latitude":1,"properties":{"pad":%q}}`+"\n", i, strings.Repeat("x", 250_000))
	}
	a, err := testrig.Do(t.Context(), http.MethodPost, s.Base+"/point", "application/x-ndjson", strings.NewReader(body.String()))
	if err != nil || a.Status != http.StatusAccepted {
		t.Fatal(a.Status, string(a.Body), err)
	}
	s.Settled()
	rest := residentBytes(t, s.PID())
	for i := range streams {
		askAndReadNothing(t, s, fmt.Sprintf("/stream?since=0&bbox=-1,-1,100.%d,2", i))
	}
	for i := range pages {
		// Each has begun to come before the next is asked for: or was refused.
		conn := askAndReadNothing(t, s, fmt.Sprintf("/points?bbox=-1,-1,100.%d,2&limit=%d", i, 100+i))
		_ = conn.SetReadDeadline(time.Now().Add(testrig.Patience))
		_, _ = io.ReadFull(conn, make([]byte, 1))
	}
	if used := peakBytes(t, s.PID()) - rest; used > maxUnread {
		t.Errorf("%d MiB more than at rest, which was %d", used>>20, rest>>20)
	} else {
		t.Logf("%d MiB more than at rest, which was %d", used>>20, rest>>20)
	}
	testrig.MustPost(t, s.Base+"/point", paris)
	testrig.MustGet(t, s.Base+"/points?limit=1", nil)
	// A stream that is read comes to the end of what there is, past all others.
	stream, err := http.Get(s.Base + "/stream?since=0")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	defer time.AfterFunc(2*testrig.Patience, func() { _ = stream.Body.Close() }).Stop()
	lines, events := bufio.NewReaderSize(stream.Body, 1<<20), 0
	for events < rows+1 {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d events: %v", events, err)
		}
		if strings.HasPrefix(line, "data: ") {
			events++
		}
	}
}
