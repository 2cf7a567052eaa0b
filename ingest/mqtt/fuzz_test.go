package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"
)

// A script is a connection whose client has sent all that it will.
type script struct {
	net.Conn // nil: what is not below is not used
	in       io.Reader
	from     net.Addr
	out      bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *script) RemoteAddr() net.Addr             { return s.from }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// Whatever a client sends, nothing is taken before it has logged in, no message is
// acknowledged that was not taken, and what is answered is MQTT.
func FuzzClient(f *testing.F) {
	connect := []byte("\x10\x18\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01c\x00\x04jane\x00\x03key")
	f.Add(connect)
	f.Add(append(bytes.Clone(connect), "\x32\x07\x00\x01a\x00\x01{}\x34\x07\x00\x01b\x00\x02{}\x62\x02\x00\x02\xc0\x00\xe0\x00"...))
	f.Add(append(bytes.Clone(connect), "\x82\x08\x00\x03\x00\x03a/#\x01\xa2\x07\x00\x04\x00\x03a/#\x30\x03\x00\x01x"...))
	f.Add([]byte("\x32\x07\x00\x01a\x00\x01{}"))
	f.Add([]byte("\x10\xff\xff\xff\x7f"))
	f.Add([]byte("\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn := &script{in: bytes.NewReader(sent)}
		in, taken := false, 0
		login := func(string, []byte) (Publisher, error) {
			in = true
			return func(topic string, _ []byte) error {
				switch {
				case topic == "":
					t.Error("a message to no topic")
				case topic[0] == 'r':
					return ErrRejected // which is acknowledged, too
				case topic[0] == 'c':
					return ErrClosed
				}
				taken++
				return nil
			}, nil
		}
		c := &client{server: &server{cfg: Config{Log: slog.New(slog.DiscardHandler), Login: login}, ctx: context.Background(), clients: newClients(&Config{})}, conn: conn}
		c.enter(c, nil)
		if err := c.run(); err == nil && !in {
			t.Error("a client that has not logged in ends well")
		}
		answers, acknowledged := bufio.NewReader(&conn.out), 0
		for n := 0; ; n++ {
			first, length, err := readHead(answers)
			var p packet
			if err == nil {
				p, _, err = readBody(answers, first, length, nil)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || n == 0 && p.kind != typeConnAck || n > 0 && p.kind == typeConnAck {
				t.Fatalf("the answers are % x: %v", conn.out.Bytes(), err)
			}
			switch p.kind {
			case typePubAck, typePubRec:
				acknowledged++
				if len(p.body) != 2 || binary.BigEndian.Uint16(p.body) == 0 {
					t.Fatalf("an acknowledgement of % x", p.body)
				}
			}
		}
		if (taken > 0 || acknowledged > 0) && !in {
			t.Fatalf("%d messages of somebody who has not logged in are taken, %d acknowledged", taken, acknowledged)
		}
	})
}
