package e2e

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

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
	data, address := testrig.PreparedFolder(t), testrig.FreePort(t)
	next := [devices]int{}
	for i := range next {
		next[i] = 1
	}
	acknowledged := [devices][]int{}
	for range rounds {
		s := serve(t, data, "--mqtt-listen", address)
		var group sync.WaitGroup
		var mu sync.Mutex
		some, before := 0, lastSequence(t, s.Base)
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
		testkit.Eventually(t, time.Minute, "some points came in", func() bool { return lastSequence(t, s.Base) > before+30 })
		s.Kill()
		group.Wait()
		if some == 0 {
			t.Fatal("nothing was acknowledged")
		}
	}
	s := serve(t, data, "--mqtt-listen", address)
	defer s.Leave()
	for d := range devices {
		// Others may be there, too: those whose acknowledgement was cut off.
		testkit.Eventually(t, time.Minute, fmt.Sprintf("what was acknowledged to device %d to be there", d), func() bool {
			there := map[string]bool{}
			for _, fix := range trackOf(t, s.Base, fmt.Sprintf("fleet/van%d", d)) {
				at, _, _ := strings.Cut(fix, " ")
				if there[at] {
					t.Fatalf("device %d has %s twice", d, at)
				}
				there[at] = true
			}
			return !slices.ContainsFunc(acknowledged[d], func(n int) bool {
				return !there[time.Unix(int64(1790000000+n), 0).UTC().Format("15:04:05")]
			})
		})
	}
	// And what people have.
	if out, err := mosquitto(t, address, "owntracks/mosquitto/pub"); err != nil {
		t.Fatalf("mosquitto_pub: %v %s", err, out)
	}
	testkit.Eventually(t, time.Minute, "what mosquitto_pub sent", func() bool { return len(trackOf(t, s.Base, "mosquitto/pub")) == 1 })
}

// lastSequence is that of the queue, as ingest tells it; 0 while it does not.
func lastSequence(t *testing.T, base string) int {
	t.Helper()
	var status struct {
		Ingest struct {
			LastSequence int `json:"last_sequence"`
		}
	}
	if testrig.GetJSON(t.Context(), base+"/status", &status) != nil {
		return 0
	}
	return status.Ingest.LastSequence
}

// mosquitto publishes a fix to a topic by mosquitto_pub, of quality 1, with further
// arguments.
func mosquitto(t *testing.T, address, topic string, args ...string) ([]byte, error) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testrig.Patience)
	defer cancel()
	args = append([]string{"-h", host, "-p", port, "-q", "1", "-t", topic, "-m", `{"_type":"location","lat":1,"lon":2,"tst":1790000000}`}, args...)
	return exec.CommandContext(ctx, "mosquitto_pub", args...).CombinedOutput()
}

// With a certificate of its own, and keys: a device publishes to its topics, encrypted,
// and nobody else does.
func TestMQTTEncryptedWithKeys(t *testing.T) {
	data, address := testrig.PreparedFolder(t), testrig.FreePort(t)
	c := testkit.NewCertificate(t, testkit.Folder(t))
	s := serve(t, data, "--auth", "keys", "--mqtt-listen", address, "--mqtt-tls-cert", c.Cert, "--mqtt-tls-key", c.Key)
	van, reader := addKey(t, s, data, "van", "write"), addKey(t, s, data, "reader", "read")
	encrypted := []string{"--cafile", c.CA, "-u", "any", "-P"}
	testkit.Eventually(t, time.Minute, "the key holds", func() bool {
		_, err := mosquitto(t, address, "owntracks/van/1", append(encrypted, van)...)
		return err == nil
	})
	for name, tt := range map[string]struct {
		topic string
		args  []string
	}{
		"not encrypted":     {"owntracks/van/2", []string{"-u", "any", "-P", van}},
		"no password":       {"owntracks/van/2", []string{"--cafile", c.CA}},
		"nobody's key":      {"owntracks/van/2", append(encrypted, "cairn_nobody")},
		"a reader's":        {"owntracks/van/2", append(encrypted, reader)},
		"another's topic":   {"owntracks/lorry/2", append(encrypted, van)},
		"the topics of all": {"points", append(encrypted, van)},
	} {
		if out, err := mosquitto(t, address, tt.topic, tt.args...); err == nil {
			t.Errorf("%s: it is taken: %s", name, out)
		}
	}
	testkit.Eventually(t, time.Minute, "what it sent is there, and nothing else", func() bool {
		a := ask(t, http.MethodGet, s.Base+"/points", reader, "")
		return strings.Count(string(a.Body), `"Feature"`) == 1 && strings.Contains(string(a.Body), "van/1")
	})
}
