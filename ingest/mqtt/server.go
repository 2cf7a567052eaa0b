// Package mqtt accepts what devices publish by MQTT 3.1.1: the half of a broker that
// writes. A message of quality 1 or 2 is acknowledged when the Publisher reports that
// it is on disk, so no acknowledged message is lost, and clients resend the others.
// There are no sessions that a restart could lose: subscriptions, which some programs
// insist on, are accepted, but nothing is delivered to them.
package mqtt

import (
	"bufio"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxClients bounds the connections; each costs a goroutine and 5 kB.
	maxClients = 10_000
	// connectTimeout bounds the time until a client has said who it is.
	connectTimeout = 10 * time.Second
	// writeTimeout bounds how long an answer of a few bytes may take.
	writeTimeout = 10 * time.Second
	// retryFor is how long a message that cannot be taken just now is tried again,
	// before the connection is closed, so that the client keeps it.
	retryFor   = 10 * time.Second
	retryPause = 200 * time.Millisecond
	readBytes  = 4 << 10
	// bodyTimeout bounds the time in which a packet that has begun must have come: its
	// largest at 9 kB/s, and nearly all at a few bytes a second.
	bodyTimeout = 30 * time.Second
	// idleBufferBytes is what a client's buffer keeps until its next packet.
	idleBufferBytes = 8 << 10
)

// A Refusal is a code of CONNACK (section 3.2.2.3).
type Refusal byte

// The codes.
const (
	badLevel    Refusal = 1
	Unavailable Refusal = 3
	BadPassword Refusal = 4
	Forbidden   Refusal = 5
)

func (r Refusal) Error() string {
	return fmt.Sprintf("the connection was refused with code %d", byte(r))
}

var (
	// ErrRejected says that a message is not one that is stored, and will never be. It
	// is acknowledged, or the client would send it forever.
	ErrRejected = errors.New("the message is not taken")
	// ErrClosed says that the client may not continue.
	ErrClosed = errors.New("the client may not continue")
)

// A Publisher takes a message, and returns when it is on disk. An error that is neither
// of those above is one that may pass.
type Publisher func(topic string, payload []byte) error

// Config is what the server needs.
type Config struct {
	Listener net.Listener
	TLS      *tls.Config // nil: none
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: none
	// Most bounds the connections below maxClients; 0: they are.
	Most int
	// Share says whose a connection from an address is, and how many of most connections
	// those may have; nil: one may have all.
	Share func(address net.Addr, most int) (owner netip.Addr, share int)
	// Open gives a connection whose address is the client's, where a proxy passes it on;
	// to ask for it may take a while. nil: none does.
	Open func(net.Conn) net.Conn
	// Login says what a client may publish to, or a [Refusal].
	Login func(user string, password []byte) (Publisher, error)
}

// Serve takes messages until ctx ends; those being processed are answered first.
func Serve(ctx context.Context, cfg Config) error {
	s := &server{cfg: cfg, ctx: ctx, clients: newClients(&cfg)}
	if cfg.Metrics != nil {
		s.clients.register(cfg.Metrics)
	}
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	defer s.group.Wait()
	for {
		conn, err := cfg.Listener.Accept()
		if ctx.Err() != nil {
			if conn != nil {
				_ = conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil { // too many open files: others end soon
			cfg.Log.Warn("accept an MQTT client", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryPause):
			}
			continue
		}
		if !s.add(conn) {
			_ = conn.Close()
		}
	}
}

type server struct {
	cfg   Config
	ctx   context.Context //nolint:containedctx // the server's life
	group sync.WaitGroup
	*clients
}

// close lets nobody in, and wakes all who wait for their client.
func (s *server) close() {
	_ = s.cfg.Listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		_ = c.raw.SetReadDeadline(time.Now())
	}
}

func (s *server) add(raw net.Conn) bool {
	c := &client{server: s, raw: raw, conn: raw}
	if s.cfg.Open != nil {
		c.conn = s.cfg.Open(raw)
	}
	if !s.enter(c, raw.RemoteAddr()) {
		return false
	}
	s.group.Go(func() {
		defer func() {
			s.giveBack(c)
			s.leave(c)
			_ = raw.Close()
		}()
		if err := c.serve(); err != nil && s.ctx.Err() == nil {
			s.cfg.Log.Debug("an MQTT client went", "from", c.conn.RemoteAddr(), "error", err)
		}
	})
	return true
}

// A client is one connection.
type client struct {
	*server
	raw       net.Conn
	conn      net.Conn // raw, by way of a proxy and encrypted
	owner     netip.Addr
	place     *list.Element // among those who have not logged in; nil: it has
	holds     int           // bytes of the current packet, if it is large
	buffer    []byte
	publisher Publisher
	keepAlive time.Duration // 0: forever
}

// errOwnShare says that a client has its share of connections already.
var errOwnShare = errors.New("the client that the proxy names has its share of connections")

// serve finds out whose connection it is, and runs it.
func (c *client) serve() error {
	if c.cfg.Open != nil && !c.move(c, c.conn.RemoteAddr()) {
		return errOwnShare
	}
	if c.cfg.TLS != nil {
		c.conn = tls.Server(c.conn, c.cfg.TLS)
	}
	return c.run()
}

func (c *client) run() error {
	r := bufio.NewReaderSize(c.conn, readBytes)
	if err := c.wait(connectTimeout); err != nil {
		return err
	}
	p, err := c.read(r)
	if err != nil {
		return err
	}
	if err := c.connect(p); err != nil {
		return err
	}
	for {
		if err := c.wait(c.keepAlive); err != nil {
			return err
		}
		p, err := c.read(r)
		if err != nil {
			return err
		}
		if p.kind == typeDisconnect {
			return nil
		}
		if err := c.handle(p); err != nil {
			return err
		}
	}
}

// wait bounds the time until the client has sent its next packet.
func (c *client) wait(d time.Duration) error {
	until := time.Time{}
	if d > 0 {
		until = time.Now().Add(d)
	}
	c.mu.Lock() // so that a stop is not overwritten
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	return c.conn.SetReadDeadline(until)
}

// read reads the next packet. Who has not logged in sends a small one; a large one needs
// room, which is given back when the next is read.
func (c *client) read(r *bufio.Reader) (p packet, err error) {
	c.giveBack(c)
	if cap(c.buffer) > idleBufferBytes {
		c.buffer = nil
	}
	first, length, err := readHead(r)
	if err != nil {
		return p, err
	}
	most := maxPacketBytes
	if c.publisher == nil {
		if most = maxConnectBytes; first>>4 != typeConnect {
			return p, protocol("a packet of type %d before it connects", first>>4)
		}
	}
	switch {
	case length > most:
		return p, protocol("a packet of %d bytes, and at most %d are taken", length, most)
	case length > idleBufferBytes && !c.hold(c, length):
		return p, errNoRoom
	}
	if length > r.Buffered() && c.publisher != nil { // who has not logged in has no more time for it
		if err := c.wait(bodyTimeout); err != nil {
			return p, err
		}
	}
	p, c.buffer, err = readBody(r, first, length, c.buffer)
	return p, err
}

// errNoRoom says that there are too many large packets at once. The client sends what was
// not acknowledged again.
var errNoRoom = errors.New("too many large packets are on their way")

func (c *client) write(b []byte) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.conn.Write(b)
	return err
}

func (c *client) connect(p packet) error {
	said, err := parseConnect(p.body)
	if err != nil {
		return err
	}
	const level311, level31 = 4, 3
	refused := error(badLevel)
	if said.level == level311 || said.level == level31 {
		c.publisher, refused = c.cfg.Login(said.user, said.password)
	}
	if refused != nil {
		code := Unavailable
		errors.As(refused, &code)
		_ = c.write([]byte{typeConnAck << 4, 2, 0, byte(code)})
		return refused
	}
	c.loggedIn(c)
	// Section 3.1.2.10: half as long again.
	c.keepAlive = time.Duration(said.keepAlive) * time.Second * 3 / 2
	return c.write([]byte{typeConnAck << 4, 2, 0, 0})
}

func (c *client) handle(p packet) error {
	switch p.kind {
	case typePublish:
		return c.publish(p)
	case typePubRel:
		b := p.body
		id, err := cut16(&b)
		if err != nil {
			return err
		}
		return c.write(numbered(typePubComp, id))
	case typeSubscribe:
		id, qualities, err := parseSubscribe(p.body, true)
		if err != nil {
			return err
		}
		if len(qualities) > 100 { // whose answer would be longer than one byte says
			return protocol("a subscription to %d topics", len(qualities))
		}
		return c.write(append([]byte{typeSubAck << 4, byte(2 + len(qualities)), byte(id >> 8), byte(id)}, qualities...))
	case typeUnsubscribe:
		id, _, err := parseSubscribe(p.body, false)
		if err != nil {
			return err
		}
		return c.write(numbered(typeUnsubAck, id))
	case typePingReq:
		return c.write([]byte{typePingResp << 4, 0})
	}
	return protocol("a packet of type %d", p.kind)
}

// publish takes a message, and acknowledges it when it is on disk.
func (c *client) publish(p packet) error {
	m, err := parsePublish(p)
	if err != nil {
		return err
	}
	for begun := time.Now(); ; {
		err = c.publisher(m.topic, m.payload)
		if err == nil || errors.Is(err, ErrRejected) || errors.Is(err, ErrClosed) || time.Since(begun) > retryFor || c.ctx.Err() != nil {
			break
		}
		select {
		case <-time.After(retryPause):
		case <-c.ctx.Done():
		}
	}
	switch {
	case errors.Is(err, ErrRejected):
		c.cfg.Log.Warn("a message by MQTT was not taken", "topic", m.topic, "error", err)
	case err != nil && m.qos == 0 && !errors.Is(err, ErrClosed):
		return nil // it was promised to nobody
	case err != nil:
		return err
	}
	switch m.qos {
	case 1:
		return c.write(numbered(typePubAck, m.id))
	case 2:
		return c.write(numbered(typePubRec, m.id))
	}
	return nil
}
