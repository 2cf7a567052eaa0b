package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// freePort is one that nobody listens on just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// publishUntil publishes fixes of a device, of quality 1, one after the other, until
// the connection ends, and returns how many were acknowledged.
func publishUntil(address string, device, from int) (acknowledged int) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	text := func(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
	packet := func(first byte, body []byte) error {
		b := []byte{first}
		for n := len(body); ; {
			digit := byte(n & 0x7f)
			if n >>= 7; n > 0 {
				digit |= 0x80
			}
			if b = append(b, digit); n == 0 {
				break
			}
		}
		_, err := conn.Write(append(b, body...))
		return err
	}
	r, answer := bufio.NewReader(conn), make([]byte, 4)
	hello := append(append(text("MQTT"), 4, 2, 0, 0), text(fmt.Sprint("device-", device))...)
	if packet(0x10, hello) != nil {
		return 0
	}
	if _, err := io.ReadFull(r, answer); err != nil || answer[3] != 0 {
		return 0
	}
	for n := from; ; n++ {
		body := append(text(fmt.Sprintf("owntracks/fleet/van%d", device)), byte(n>>8), byte(n))
		body = fmt.Appendf(body, `{"_type":"location","lat":%d,"lon":%d,"tst":%d,"tid":"v"}`, device, n%90, 1790000000+n)
		if packet(0x32, body) != nil {
			return n - from
		}
		if _, err := io.ReadFull(r, answer); err != nil || answer[0] != 0x40 || int(answer[2])<<8|int(answer[3]) != n&0xffff {
			return n - from
		}
	}
}

// What was acknowledged by MQTT is there after the process was killed.
func TestMQTTKilled(t *testing.T) {
	const devices, rounds = 4, 3
	data, address := testrig.DataFolder(t), freePort(t)
	next := [devices]int{}
	for i := range next {
		next[i] = 1
	}
	acknowledged := [devices][]int{}
	for range rounds {
		s := serve(t, data, "--mqtt-listen", address)
		var group sync.WaitGroup
		var mu sync.Mutex
		some, before := 0, next[0]
		for d := range devices {
			group.Go(func() {
				n := publishUntil(address, d, next[d])
				mu.Lock()
				defer mu.Unlock()
				for i := range n {
					acknowledged[d] = append(acknowledged[d], next[d]+i)
				}
				next[d] += n + 1 // the last one was not acknowledged: it may be there or not
				some += n
			})
		}
		testkit.Eventually(t, time.Minute, "some points came in", func() bool {
			var status struct {
				Ingest struct {
					LastSequence int `json:"last_sequence"`
				}
			}
			return testrig.GetJSON(t.Context(), s.Base+"/status", &status) == nil && status.Ingest.LastSequence > before+30
		})
		s.Kill()
		group.Wait()
		if some == 0 {
			t.Fatal("nothing was acknowledged")
		}
	}
	s := serve(t, data, "--mqtt-listen", address)
	defer s.Leave()
	for d := range devices {
		var there map[string]bool
		testkit.Eventually(t, time.Minute, "what was acknowledged is there", func() bool {
			there = map[string]bool{}
			for _, fix := range trackOf(t, s.Base, fmt.Sprintf("fleet/van%d", d)) {
				at, _, _ := strings.Cut(fix, " ")
				if there[at] {
					t.Fatalf("device %d has %s twice", d, at)
				}
				there[at] = true
			}
			return len(there) >= len(acknowledged[d])
		})
		for _, n := range acknowledged[d] {
			if at := time.Unix(int64(1790000000+n), 0).UTC().Format("15:04:05"); !there[at] {
				t.Errorf("device %d: %s was acknowledged and is lost", d, at)
			}
		}
	}
	// And what people have.
	host, port, _ := net.SplitHostPort(address)
	out, err := exec.CommandContext(t.Context(), "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", "owntracks/mosquitto/pub", "-m",
		`{"_type":"location","lat":1,"lon":2,"tst":1790000000}`).CombinedOutput()
	if err != nil {
		t.Fatalf("mosquitto_pub: %v %s", err, out)
	}
	testkit.Eventually(t, time.Minute, "what mosquitto_pub sent", func() bool { return len(trackOf(t, s.Base, "mosquitto/pub")) == 1 })
}
