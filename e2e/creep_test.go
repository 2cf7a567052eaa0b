package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn/internal/testrig"
)

// Uploads that creep give their places to one that comes.
func TestCreepingUploads(t *testing.T) {
	s := serve(t, testrig.PreparedFolder(t))
	const creeping = 200 // several times as many as are read at once
	for range creeping {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.Base, "http://"), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "POST /point HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n")
	}
	for range 3 {
		a, err := testrig.Do(t.Context(), http.MethodPost, s.Base+"/point", "application/x-ndjson", strings.NewReader(paris+"\n"))
		if err != nil || a.Status != http.StatusAccepted {
			t.Errorf("an honest upload: %d %s %v", a.Status, a.Body, err)
		}
	}
}
