package web

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout bounds the wait for the header of the PROXY protocol, which a
// proxy sends at once.
const proxyHeaderTimeout = 5 * time.Second

// A proxied connection is one of a proxy that may say, in a header before everything else, whose
// connection it passes on (the PROXY protocol of HAProxy, versions 1 and 2). Without a
// header it is the proxy's own, as that of a health check is.
type proxied struct{ *proxyproto.Conn }

func newProxied(raw net.Conn) proxied {
	return proxied{proxyproto.NewConn(raw, proxyproto.WithPolicy(proxyproto.USE), proxyproto.SetReadHeaderTimeout(proxyHeaderTimeout))}
}

func (p proxied) CloseWrite() error {
	if tcp, ok := p.TCPConn(); ok {
		return tcp.CloseWrite()
	}
	return errors.ErrUnsupported
}

// errOwnShare says that a client has its share of connections already.
var errOwnShare = errors.New("the client that the proxy names has its share of connections")

// name finds out whose connection it is, which waits for the header, and counts it as
// that client's.
func (c *conn) name() error {
	p := c.passedOn
	c.passedOn = nil
	if !c.all.move(c, addressOf(p.RemoteAddr())) {
		return errOwnShare
	}
	return nil
}

// move counts the connection as another address', and says whether that may have one more.
func (a *connections) move(c *conn, to netip.Addr) bool {
	share, owner := a.share(to), ownerOf(to)
	if a.addressOf(c) == owner {
		return true
	}
	if a.count(owner) >= share {
		a.shedIdle(func(o *conn) bool { return o.address == owner })
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, there := a.all[c]; !there { // it was shed
		return false
	}
	if a.byAddress[owner] >= share {
		a.refused.Add(1)
		return false
	}
	a.uncount(c.address)
	c.address = owner
	a.byAddress[owner]++
	return true
}

func (a *connections) addressOf(c *conn) netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return c.address
}
