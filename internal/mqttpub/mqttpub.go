// Package mqttpub publishes by MQTT 3.1.1 with quality 1, one message at a time, for
// the load tool and the tests.
package mqttpub

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Options say who connects.
type Options struct {
	Address        string // host:port
	ClientID       string
	User, Password string // "": none
	// Timeout bounds connecting, and each message with its acknowledgement.
	Timeout time.Duration
}

// The first bytes of packets (section 2.2); those published are of quality 1.
const (
	connect   = 0x10
	connAck   = 0x20
	publish   = 0x32
	pubAck    = 0x40
	duplicate = 0x08
)

// keepAlive is in seconds; the server disconnects a client that sends nothing for 1.5 times as long.
const keepAlive = 600

// A Client has a session that the server is asked to keep (section 3.1.2.4): what was
// not acknowledged is the client's to send again, with [Client.Publish].
type Client struct {
	conn    net.Conn
	r       *bufio.Reader
	id      uint16
	timeout time.Duration
}

// Dial connects, and returns when the server has let the client in.
func Dial(o Options) (*Client, error) {
	conn, err := net.DialTimeout("tcp", o.Address, o.Timeout)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, r: bufio.NewReaderSize(conn, 512), timeout: o.Timeout}
	const level, withUser, withPassword = 4, 0x80, 0x40 // section 3.1.2
	flags, credentials := byte(0), []byte(nil)
	if o.User != "" {
		flags, credentials = withUser, text(credentials, o.User)
	}
	if o.Password != "" {
		flags, credentials = flags|withPassword, text(credentials, o.Password)
	}
	body := append(text(nil, "MQTT"), level, flags)
	body = text(binary.BigEndian.AppendUint16(body, keepAlive), o.ClientID)
	answer, err := c.exchange(connect, append(body, credentials...))
	if err == nil && (answer[0] != connAck || answer[3] != 0) {
		err = fmt.Errorf("the client is refused with code %d", answer[3])
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("connect by MQTT: %w", err)
	}
	return c, nil
}

// Publish sends a message and returns when it is acknowledged. After an error the client
// is to be closed; whether the message was taken is not known.
func (c *Client) Publish(topic string, payload []byte, again bool) error {
	if c.id++; c.id == 0 {
		c.id = 1 // section 2.3.1
	}
	first := byte(publish)
	if again {
		first |= duplicate
	}
	body := binary.BigEndian.AppendUint16(text(nil, topic), c.id)
	answer, err := c.exchange(first, append(body, payload...))
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	if answer[0] != pubAck || binary.BigEndian.Uint16(answer[2:]) != c.id {
		return fmt.Errorf("publish to %s: the answer to message %d is % x", topic, c.id, answer)
	}
	return nil
}

// Close ends the connection without a farewell, as a phone that loses its network.
func (c *Client) Close() { _ = c.conn.Close() }

// exchange sends a packet and reads the four bytes of its answer.
func (c *Client) exchange(first byte, body []byte) (answer [4]byte, err error) {
	packet := []byte{first}
	for n := len(body); ; {
		digit := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			digit |= 0x80
		}
		if packet = append(packet, digit); n == 0 {
			break
		}
	}
	_ = c.conn.SetDeadline(time.Now().Add(c.timeout))
	if _, err = c.conn.Write(append(packet, body...)); err != nil {
		return answer, err
	}
	if _, err = io.ReadFull(c.r, answer[:]); errors.Is(err, io.EOF) {
		err = errors.New("the server closed the connection")
	}
	return answer, err
}

func text(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...) //nolint:gosec // topics and names are short
}
