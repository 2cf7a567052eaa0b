package ingest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// mqttPatience bounds the wait for an answer.
const mqttPatience = 30 * time.Second

// serveMQTT takes messages for the test, and returns the address.
func serveMQTT(t *testing.T, q queue, access *auth.Authority) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h := newHandler(ctx, q, testkit.Log(t), prometheus.NewRegistry(), defaultLimits)
	ended := make(chan error, 1)
	go func() { ended <- h.serveMQTT(ctx, &MQTT{Listener: l}, access) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// A publisher is a client.
type publisher struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	id   uint16
}

func withLength(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// connectTo connects, and returns the code of the answer.
func connectTo(t *testing.T, address, user, password string) (*publisher, byte) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(mqttPatience))
	p := &publisher{t: t, conn: conn, r: bufio.NewReader(conn)}
	body := append(withLength(nil, "MQTT"), 4, 0xc0, 0, 60) // with user and password
	body = withLength(withLength(withLength(body, "client-1"), user), password)
	p.send(0x10, body)
	answer := p.read(4)
	if answer[0] != 0x20 || answer[1] != 2 || answer[2] != 0 {
		t.Fatalf("CONNACK % x", answer)
	}
	return p, answer[3]
}

func (p *publisher) send(first byte, body []byte) {
	p.t.Helper()
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
	if _, err := p.conn.Write(append(b, body...)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *publisher) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(p.r, b); err != nil {
		p.t.Fatal(err)
	}
	return b
}

// publish sends a message of a quality.
func (p *publisher) publish(qos byte, topic, payload string) {
	p.t.Helper()
	body := withLength(nil, topic)
	if qos > 0 {
		p.id++
		body = binary.BigEndian.AppendUint16(body, p.id)
	}
	p.send(0x30|qos<<1, append(body, payload...))
}

// wants reads the answer that has the number of the last message.
func (p *publisher) wants(first byte) {
	p.t.Helper()
	if b := p.read(4); b[0] != first || b[1] != 2 || binary.BigEndian.Uint16(b[2:]) != p.id {
		p.t.Fatalf("% x, want % x for message %d", b, first, p.id)
	}
}

// closed says that the server has closed the connection, without a word.
func (p *publisher) closed() {
	p.t.Helper()
	if b, err := io.ReadAll(p.r); err != nil && !strings.Contains(err.Error(), "reset") || len(b) > 0 {
		p.t.Fatalf("% x, %v; want the end", b, err)
	}
}

func TestMQTT(t *testing.T) {
	q := &fakeQueue{}
	p, code := connectTo(t, serveMQTT(t, q, nil), "jane", "")
	if code != 0 {
		t.Fatalf("code %d", code)
	}
	p.send(0x82, append(withLength([]byte{0, 9}, "owntracks/+/+"), 1)) // as OwnTracks does
	if b := p.read(5); !bytes.Equal(b, []byte{0x90, 3, 0, 9, 1}) {
		t.Fatalf("SUBACK % x", b)
	}
	const location = `{"_type":"location","lat":48.8566,"lon":2.3522,"tst":1790000000,"tid":"JJ","batt":56}`
	p.publish(1, "owntracks/jane/phone", location)
	p.wants(0x40)
	p.publish(1, "owntracks/jane/phone/event", `{"_type":"transition","event":"enter","desc":"Home","lat":48.9,"lon":2.3,"tst":1790000060}`)
	p.wants(0x40)
	p.publish(2, "sensors/roof/7", `{"longitude":1,"latitude":2,"time":"2026-09-21T14:13:20Z","properties":{"t":21.5}}`)
	p.wants(0x50)
	p.send(0x62, binary.BigEndian.AppendUint16(nil, p.id))
	p.wants(0x70)
	p.publish(0, "sensors/roof/8", `{"type":"Feature","geometry":{"type":"Point","coordinates":[3,4]},"properties":{"name":"eight"}}`)
	p.publish(1, "owntracks/jane/phone", `{"_type":"lwt","tst":1790000000}`) // has no place
	p.wants(0x40)
	p.publish(1, "sensors/roof/9", `not JSON`) // will never be one: it must not come forever
	p.wants(0x40)
	p.publish(1, "owntracks/jane/phone", location) // again, since the answer was lost
	p.wants(0x40)
	p.send(0xc0, nil)
	if b := p.read(2); !bytes.Equal(b, []byte{0xd0, 0}) {
		t.Fatalf("PINGRESP % x", b)
	}
	p.send(0xe0, nil)
	p.closed()
	events := q.events(t)
	want := []struct {
		name string
		x, y float64
	}{{"jane/phone", 2.3522, 48.8566}, {"jane/phone", 2.3, 48.9}, {"sensors/roof/7", 1, 2}, {"eight", 3, 4}, {"jane/phone", 2.3522, 48.8566}}
	if len(events) != len(want) {
		t.Fatalf("%d events", len(events))
	}
	for i, w := range want {
		if e := events[i]; e.Type != event.Created || e.Point.Name != w.name || e.Point.Position[0] != w.x || e.Point.Position[1] != w.y {
			t.Errorf("%d: %q at %v, %s", i, e.Point.Name, e.Point.Position, e.Point.Properties)
		}
	}
	if events[0].ID != events[4].ID || events[0].ID == events[1].ID {
		t.Errorf("ids %v %v %v", events[0].ID, events[4].ID, events[1].ID)
	}
	if !strings.Contains(string(events[2].Point.Properties), `"t":21.5`) {
		t.Errorf("%s", events[2].Point.Properties)
	}
}

// What is not on disk is not acknowledged: it is tried again, and acknowledged when it is.
func TestMQTTAcknowledgesWhatIsOnDisk(t *testing.T) {
	failures := 3
	q := &fakeQueue{fail: func(attempt int) error {
		if attempt <= failures {
			return bus.ErrUnavailable
		}
		return nil
	}}
	p, _ := connectTo(t, serveMQTT(t, q, nil), "", "")
	p.publish(1, "owntracks/a/b", `{"_type":"location","lat":1,"lon":2,"tst":1790000000}`)
	p.wants(0x40)
	if n := len(q.events(t)); n != 1 || q.attempts != failures+1 {
		t.Errorf("%d events after %d attempts", n, q.attempts)
	}
}

// Keys are passwords. A device publishes to its own topics only.
func TestMQTTKeys(t *testing.T) {
	access, keys := keysOf(t, &auth.Identity{Name: "jane", Scopes: auth.Write}, &auth.Identity{Name: "reader", Scopes: auth.Read})
	jane, reader := keys["jane"], keys["reader"]
	q := &fakeQueue{}
	address := serveMQTT(t, q, access)
	for _, c := range []struct {
		name, password string
		code           byte
	}{{"no key", "", 4}, {"another's word", "secret", 4}, {"one that may only read", reader, 5}} {
		t.Run(c.name, func(t *testing.T) {
			p, code := connectTo(t, address, "jane", c.password)
			if code != c.code {
				t.Errorf("code %d", code)
			}
			p.closed()
		})
	}
	const location = `{"_type":"location","lat":1,"lon":2,"tst":1790000000}`
	p, code := connectTo(t, address, "whoever", jane)
	if code != 0 {
		t.Fatalf("code %d", code)
	}
	p.publish(1, "owntracks/jane/phone", location)
	p.wants(0x40)
	p.publish(1, "jane/roof", `{"longitude":1,"latitude":2}`)
	p.wants(0x40)
	p.publish(1, "owntracks/jim/phone", location)
	p.closed()
	events := q.events(t)
	if len(events) != 2 || events[0].Author != "jane" || events[1].Point.Name != "jane/roof" {
		t.Errorf("%d events: %+v", len(events), events)
	}
}

func TestOwnTopics(t *testing.T) {
	for _, tt := range []struct {
		name, topic string
		owns        bool
	}{
		{"jane", "jane", true}, {"jane", "jane/roof", true}, {"jane", "owntracks/jane/phone", true}, {"jane", "owntracks/jane/phone/event", true},
		{"jane", "janet/roof", false}, {"jane", "owntracks/janet/phone", false}, {"jane", "owntracks/jane", false}, {"jane", "owntracks/jim/jane/x", false}, {"jane", "jim/jane", false}, {"jane", "/jane/x", false},
		{"owntracks", "owntracks/jim/phone", false}, {"owntracks", "owntracks/owntracks/phone", true}, {"owntracks", "owntracks", true},
		{"", "/x", false}, {"", "", false}, {"", "owntracks//phone", false},
	} {
		if got := owns(tt.name, tt.topic); got != tt.owns {
			t.Errorf("%q owns %q: %v", tt.name, tt.topic, got)
		}
	}
}

// Who does not speak MQTT is dropped.
func TestMQTTRefuses(t *testing.T) {
	address := serveMQTT(t, &fakeQueue{}, nil)
	for name, bytes := range map[string]string{"HTTP": "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "a message first": "\x32\x07\x00\x01a\x00\x01{}", "a length without end": "\x10\xff\xff\xff\xff\xff",
		"too long": "\x10\xff\xff\xff\x7f", "another protocol": "\x10\x0a\x00\x04AMQP\x04\x02\x00\x3c"} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(mqttPatience))
			if _, err := conn.Write([]byte(bytes)); err != nil {
				t.Fatal(err)
			}
			(&publisher{t: t, conn: conn, r: bufio.NewReader(conn)}).closed()
		})
	}
}

// A topic is one topic in UTF-8 (MQTT 3.1.1, sections 1.5.3 and 3.3.2.1), for it
// becomes a name: who publishes to another is dropped, and nothing is stored.
func TestMQTTTopics(t *testing.T) {
	for name, topic := range map[string]string{"zero": "a\x00b", "not UTF-8": "caf\xe9", "many": "roof/+", "all": "#", "none": ""} {
		t.Run(name, func(t *testing.T) {
			q := &fakeQueue{}
			p, _ := connectTo(t, serveMQTT(t, q, nil), "", "")
			p.publish(1, topic, `{"longitude":1,"latitude":2}`)
			p.closed()
			if n := len(q.events(t)); n != 0 {
				t.Errorf("%d events", n)
			}
		})
	}
}
