package web

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	// networkBits of an IPv6 address are one client's: a household or a machine
	// has all of a /64.
	networkBits = 64
	// shareRetry is when a client may come again that had its share.
	shareRetry = 5 * time.Second
	// maxHops bounds the addresses that are looked at of a request: a head has room
	// for thousands.
	maxHops = 32
)

// Proxies are the networks whose word on a client is taken: what X-Forwarded-* and
// Forwarded say. nil are loopback and the private networks; no network at all is
// nobody.
type Proxies []netip.Prefix

// ParseProxies reads networks and addresses. Without any it returns nil; "none" is
// nobody.
func ParseProxies(texts []string) (Proxies, error) {
	var out Proxies
	for _, text := range texts {
		switch text {
		case "":
			continue
		case "none":
			if len(texts) > 1 {
				return nil, fmt.Errorf(`the trusted proxy "none" cannot stand beside others`)
			}
			return Proxies{}, nil
		}
		network, err := netip.ParsePrefix(text)
		if address, err2 := netip.ParseAddr(text); err != nil && err2 == nil && address.Zone() == "" {
			network, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("the trusted proxy %q must be a network such as 10.0.0.0/8, or an address", text)
		}
		out = append(out, network.Masked())
	}
	return out, nil
}

func (p Proxies) trust(a netip.Addr) bool {
	if p == nil {
		return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
	}
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// client is the caller: the other end of the connection, or, where that is a proxy, the
// last address of those that the proxies passed on that is no proxy itself. What
// stands before it is the client's own to invent.
func (p Proxies) client(peer netip.Addr, c *fiber.Ctx) netip.Addr {
	if !p.trust(peer) {
		return peer
	}
	fields, named := fieldsOf(c, ForwardedFor), false
	if len(fields) == 0 {
		fields, named = fieldsOf(c, Forwarded), true
	}
	hops := 0
	for i := len(fields) - 1; i >= 0; i-- {
		for rest, more := fields[i], true; more; {
			var hop []byte
			comma := bytes.LastIndexByte(rest, ',')
			if more = comma >= 0; more {
				rest, hop = rest[:comma], rest[comma+1:]
			} else {
				hop = rest
			}
			address, ok := hopAddress(hop, named)
			if hops++; !ok || hops > maxHops {
				return peer
			}
			if peer = address; !p.trust(peer) {
				return peer
			}
		}
	}
	return peer
}

// hopAddress reads an address with or without a port; named is for one as Forwarded
// has it (RFC 7239, section 4).
func hopAddress(hop []byte, named bool) (netip.Addr, bool) {
	if named {
		hop = pairOf(hop, "for")
	}
	text := string(bytes.TrimSpace(hop))
	if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
		text = text[1 : n-1]
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		var with netip.AddrPort
		with, err = netip.ParseAddrPort(text)
		address = with.Addr()
	}
	return address.Unmap(), err == nil && address.Zone() == ""
}

// pairOf is the value of the name among the pairs of an element of Forwarded.
func pairOf(element []byte, wanted string) []byte {
	for pair := range bytes.SplitSeq(element, []byte{';'}) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(pair), []byte{'='})
		if strings.EqualFold(string(name), wanted) {
			return bytes.Trim(value, `"`)
		}
	}
	return nil
}

// clientOf is the address of the caller, and whether it is one that can be told
// from others: a proxy's may be that of many.
func clientOf(c *fiber.Ctx) (address netip.Addr, told bool) {
	var p Proxies
	if conn, ok := c.Context().Conn().(*conn); ok {
		p = conn.all.proxies
	}
	address = p.client(addressOf(c.Context().RemoteAddr()), c)
	return address, address.IsValid() && !p.trust(address)
}

// ClientAddress is that of the caller, as far as trusted proxies tell it.
func ClientAddress(c *fiber.Ctx) string {
	address, _ := clientOf(c)
	return address.String()
}

// fromOf is the caller, for the log: with a port where no proxy stands between.
func fromOf(c *fiber.Ctx) string {
	peer := c.Context().RemoteAddr()
	if address, _ := clientOf(c); address != addressOf(peer) {
		return address.String()
	}
	if conn, ok := c.Context().Conn().(*conn); ok {
		return conn.peerText(peer)
	}
	return peer.String()
}

// ownerOf is what stands for a client's address where clients are counted.
func ownerOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		if network, err := a.Prefix(networkBits); err == nil {
			return network.Addr()
		}
	}
	return a
}

// Neighbours are the connections of another protocol than HTTP, beside whose proxies
// theirs stand.
type Neighbours struct {
	proxies  Proxies
	passedOn bool
}

// Neighbours are those of the server.
func (s *Server) Neighbours() Neighbours { return Neighbours{s.cfg.Proxies, s.cfg.ProxyProtocol} }

// NewNeighbours are behind the proxies; passedOn says that those name a connection's
// client by the PROXY protocol.
func NewNeighbours(proxies Proxies, passedOn bool) Neighbours { return Neighbours{proxies, passedOn} }

// Open gives the connection the address that a proxy names, if one does. To ask for the
// address then waits for the proxy.
func (n Neighbours) Open(raw net.Conn) net.Conn {
	if n.passedOn && n.proxies.trust(addressOf(raw.RemoteAddr())) {
		return newProxied(raw)
	}
	return raw
}

// Share is whose a connection from an address is, and how many of most connections those
// may have.
func (n Neighbours) Share(from net.Addr, most int) (owner netip.Addr, share int) {
	address := addressOf(from)
	return ownerOf(address), n.proxies.share(address, most)
}

// Most is how many connections there may be beside those of HTTP: half of [SpareFiles], as
// others open files too.
func (n Neighbours) Most() int { return max(SpareFiles()/2, 1) }

// SpareFiles is what the limit of open files leaves beside the connections of HTTP.
func SpareFiles() int { return max(maxFiles()-MaxConnections(), 0) }

func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Shares bound what a single client's address has at once, of a thing that there is a
// limited number of. Trusted proxies, and clients in their networks, are not bounded.
type Shares struct {
	what string
	most int

	mu   sync.Mutex
	held map[netip.Addr]int
}

// NewShares are of what is named, in the plural; most is an address' bound, 1 at
// least.
func NewShares(what string, most int) *Shares {
	return &Shares{what: what, most: max(most, 1), held: map[netip.Addr]int{}}
}

// Take takes one for the request's client, or says that it has its share. What was
// taken is given back once.
func (s *Shares) Take(c *fiber.Ctx) (giveBack func(), err error) {
	address, told := clientOf(c)
	if !told {
		return func() {}, nil
	}
	owner := ownerOf(address)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[owner] >= s.most {
		return nil, &Problem{Status: http.StatusTooManyRequests, RetryAfter: shareRetry,
			Detail: fmt.Sprintf("%d %s of one client address are all that are taken at once: let some end, and try again", s.most, s.what)}
	}
	s.held[owner]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[owner]--; s.held[owner] == 0 {
			delete(s.held, owner)
		}
	}, nil
}
