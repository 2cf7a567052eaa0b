package faults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// pieceBytes is how much is carried at once: small, so that a cut falls
	// into the middle of messages.
	pieceBytes = 2 << 10
	// dialTimeout bounds the way to the target.
	dialTimeout = 2 * time.Second
)

// A rule is what a proxy does to what it carries.
type rule struct {
	// refuse closes new connections at once, cut ends the open ones.
	refuse, cut bool
	// up and down hold back what goes to the server and to the client.
	stallUp, stallDown bool
	// rate is the most that passes in each direction, in bytes a second; 0: all.
	rate int
	// every, above 0, is how many bytes pass, over all connections, before the
	// one that carries the last of them is cut there, in the middle.
	every int
	// trap, where it is not nil, holds back what goes to the server from a
	// little behind this text on.
	trap []byte
}

// A proxy stands before a server and can break what it carries.
type proxy struct {
	name    string
	address string
	ln      net.Listener
	ctx     context.Context
	end     context.CancelFunc
	group   sync.WaitGroup

	mu      sync.Mutex
	network string
	target  string
	rule    rule
	carried int           // bytes since the last cut of rule.every
	changed chan struct{} // closed when the rule changes
	trapped chan struct{} // closed when the trap has sprung
	pairs   map[*pair]struct{}
}

// A pair is one connection that is carried.
type pair struct {
	client, server net.Conn
	once           sync.Once
	closed         chan struct{}
	frozen         bool // for good: the way between the two is gone, and no one says so
}

func (p *pair) close(abrupt bool) {
	p.once.Do(func() {
		for _, c := range []net.Conn{p.client, p.server} {
			if t, ok := c.(*net.TCPConn); ok && abrupt {
				_ = t.SetLinger(0) // a reset, and what is buffered is lost
			}
			_ = c.Close()
		}
		close(p.closed)
	})
}

func newProxy(name string) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{name: name, address: ln.Addr().String(), ln: ln, changed: make(chan struct{}), pairs: map[*pair]struct{}{}}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.group.Go(p.accept)
	return p, nil
}

// to sets where new connections go.
func (p *proxy) to(network, target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network, p.target = network, target
}

// set changes the rule.
func (p *proxy) set(r rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule, p.carried = r, 0
	p.trapped = make(chan struct{})
	close(p.changed)
	p.changed = make(chan struct{})
	if r.cut {
		for c := range p.pairs {
			c.close(true)
		}
	}
}

// heal takes the rule away. Connections that froze stay as they are.
func (p *proxy) heal() { p.set(rule{}) }

// freeze makes the open connections carry nothing any more, for good, as when a
// firewall forgets them.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		c.frozen = true
	}
}

// sprung is closed when the trap of the rule has caught something.
func (p *proxy) sprung() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trapped
}

func (p *proxy) close() {
	p.end()
	_ = p.ln.Close()
	p.mu.Lock()
	for c := range p.pairs {
		c.close(true)
	}
	p.mu.Unlock()
	p.group.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		p.mu.Lock()
		network, target, refuse := p.network, p.target, p.rule.refuse
		p.mu.Unlock()
		if refuse || target == "" {
			_ = client.(*net.TCPConn).SetLinger(0)
			_ = client.Close()
			continue
		}
		p.group.Go(func() { p.carry(client, network, target) })
	}
}

func (p *proxy) carry(client net.Conn, network, target string) {
	server, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(p.ctx, network, target)
	if err != nil {
		_ = client.Close()
		return
	}
	c := &pair{client: client, server: server, closed: make(chan struct{})}
	p.mu.Lock()
	p.pairs[c] = struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pump(c, server, client, true) })
	both.Go(func() { p.pump(c, client, server, false) })
	both.Wait()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
}

// pump carries one direction until either end closes.
func (p *proxy) pump(c *pair, dst io.Writer, src io.Reader, up bool) {
	defer c.close(false)
	piece := make([]byte, pieceBytes)
	for {
		n, err := src.Read(piece)
		if n > 0 {
			if p.pass(c, dst, piece[:n], up) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

var errCut = errors.New("cut")

// pass writes the data to dst as the rule of the moment has it.
func (p *proxy) pass(c *pair, dst io.Writer, data []byte, up bool) error {
	held := -1 // how much of data a trap lets through
	for {
		p.mu.Lock()
		r, changed := p.rule, p.changed
		if up && r.trap != nil {
			if i := bytes.Index(data, r.trap); i >= 0 {
				held = min(len(data), i+len(r.trap)+1)
				p.rule.trap, p.rule.stallUp = nil, true
				close(p.trapped)
			}
		}
		if p.carried += len(data); r.every > 0 && p.carried >= r.every {
			last := len(data) - (p.carried - r.every)
			p.carried = 0
			p.mu.Unlock()
			_, _ = dst.Write(data[:last]) // it is cut anyhow
			c.close(false)
			return errCut
		}
		frozen := c.frozen
		p.mu.Unlock()
		switch {
		case frozen:
			<-c.closed
			return errCut
		case held >= 0:
			if _, err := dst.Write(data[:held]); err != nil {
				return err
			}
			data, held = data[held:], -1
		case up && r.stallUp || !up && r.stallDown:
		default:
			return p.send(c, dst, data, r.rate)
		}
		select {
		case <-changed:
		case <-c.closed:
			return errCut
		}
	}
}

// send writes at the rate.
func (p *proxy) send(c *pair, dst io.Writer, data []byte, rate int) error {
	if rate > 0 {
		t := time.NewTimer(time.Duration(len(data)) * time.Second / time.Duration(rate))
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.closed:
			return errCut
		}
	}
	_, err := dst.Write(data)
	return err
}
