package web

import (
	"cmp"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

const (
	// reservedFiles are kept for what else opens files, at least: the queue's
	// store, the pool of connections to Postgres, pg_ctl.
	reservedFiles = 64
	// mostConnections bounds them where the system would allow more: a silent one
	// costs some kilobytes.
	mostConnections = 50_000
	// proxyShare is the part of all connections that one proxy may not have: an
	// eighth is left to others.
	proxyShare = 8
	// addressShare is the part of all connections that one address may have which is
	// no trusted proxy's: a quarter.
	addressShare = 4
	// shedShare is the part of all connections that is shed at once, so that a
	// flood does not look for the idlest at every connection.
	shedShare = 64
	// acceptPause is the wait after the system refused to accept, for lack of
	// files.
	acceptPause = 10 * time.Millisecond
	// unsentBytes bounds the large answers that clients have not read yet, in memory:
	// what several are sent is one. Where there is more, a client that stalls is cut off.
	unsentBytes = 80 << 20
	// stallAfter is how long a client may take nothing while others wait for the room
	// that its answer has.
	stallAfter = time.Second
	// slowRate is what an upload must bring, in bytes a second, to keep its place
	// where others wait for one, and slowAge how long it may take to begin.
	slowRate = 1024.0
	slowAge  = time.Second
	// largeAnswer is what counts towards that: smaller ones fit the sockets'
	// buffers.
	largeAnswer = 64 << 10
)

// MaxConnections is the usual bound: what the limit of open files leaves.
func MaxConnections() int {
	files := maxFiles()
	return min(max(files-max(files/4, reservedFiles), files/4, 1), mostConnections)
}

// maxFiles is the limit of open files, as far as it matters.
func maxFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 2*mostConnections {
		return 2 * mostConnections
	}
	return int(limit.Cur) //nolint:gosec // bounded above
}

// connections are all that a server has. Where there are too many, those go first
// that have waited longest for a request.
type connections struct {
	max     int
	proxies Proxies
	// passedOn says that the proxies may name a connection's client by the PROXY protocol.
	passedOn bool
	log      *slog.Logger

	mu        sync.Mutex
	all       map[*conn]struct{}
	byAddress map[netip.Addr]int
	answers   map[*byte]*unsent // by their first byte

	unsent atomic.Int64 // bytes of answers
	// shed and refused are counted for the metrics.
	shed, refused atomic.Int64
}

// An unsent is a large answer on its way.
type unsent struct{ bytes, clients int }

func newConnections(max int, proxies Proxies, log *slog.Logger) *connections {
	if max <= 0 {
		max = MaxConnections()
	}
	return &connections{max: max, proxies: proxies, log: log,
		all: map[*conn]struct{}{}, byAddress: map[netip.Addr]int{}, answers: map[*byte]*unsent{}}
}

func (a *connections) register(r prometheus.Registerer) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cairn_http_connections", Help: "Connections that are open."},
			func() float64 { return float64(a.count(netip.Addr{})) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cairn_http_unsent_bytes", Help: "Bytes of large answers that clients have yet to take."},
			func() float64 { return float64(a.unsent.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cairn_http_connections_shed_total", Help: "Connections closed to make room: idle ones, and clients that read too slowly."},
			func() float64 { return float64(a.shed.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cairn_http_connections_refused_total", Help: "Connections refused because there were too many busy ones."},
			func() float64 { return float64(a.refused.Load()) }),
	)
}

// admit takes a connection in, or returns nil.
func (a *connections) admit(raw net.Conn, encrypted *tls.Config) *conn {
	c := &conn{Conn: raw, all: a, address: addressOf(raw.RemoteAddr())}
	if a.passedOn && a.proxies.trust(c.address) {
		p := newProxied(raw)
		c.Conn, c.passedOn, raw = p, &p, p
	}
	if encrypted != nil {
		c.Conn, c.encrypted = tls.Server(raw, encrypted), true
	}
	c.waiting.Store(time.Now().UnixNano())
	share := a.share(c.address)
	c.address = ownerOf(c.address)
	if a.count(c.address) >= share {
		a.shedIdle(func(o *conn) bool { return o.address == c.address })
	}
	if a.count(netip.Addr{}) >= a.max {
		a.shedIdle(func(*conn) bool { return true })
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) >= a.max || a.byAddress[c.address] >= share {
		a.refused.Add(1)
		return nil
	}
	a.all[c] = struct{}{}
	a.byAddress[c.address]++
	return c
}

// share is how many one address may have.
func (a *connections) share(address netip.Addr) int { return a.proxies.share(address, a.max) }

// share is how many of most connections one address may have.
func (p Proxies) share(address netip.Addr, most int) int {
	if !address.IsValid() || p.trust(address) {
		return most - most/proxyShare
	}
	return max(most/addressShare, 1)
}

// count is how many there are of an address; of all for the zero address.
func (a *connections) count(address netip.Addr) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !address.IsValid() {
		return len(a.all)
	}
	return a.byAddress[address]
}

func (a *connections) leave(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clearUnsent(c)
	if _, there := a.all[c]; !there {
		return
	}
	delete(a.all, c)
	a.uncount(c.address)
}

// uncount takes one off an address' account. The lock is held.
func (a *connections) uncount(address netip.Addr) {
	if a.byAddress[address]--; a.byAddress[address] == 0 {
		delete(a.byAddress, address)
	}
}

// shedIdle closes those that have waited longest for a request, of those that
// which picks.
func (a *connections) shedIdle(which func(*conn) bool) {
	type idle struct {
		c     *conn
		since int64
	}
	var found []idle
	a.mu.Lock()
	for c := range a.all {
		if since := c.waiting.Load(); since != 0 && which(c) {
			found = append(found, idle{c, since})
		}
	}
	a.mu.Unlock()
	slices.SortFunc(found, func(x, y idle) int { return cmp.Compare(x.since, y.since) })
	for _, i := range found[:min(len(found), a.max/shedShare+1)] {
		a.shed.Add(1)
		_ = i.c.cut()
	}
}

// addUnsent notes that an answer is about to be sent, and says whether there is room for
// it. Room is made at the cost of those who stall.
func (a *connections) addUnsent(c *conn, body []byte) bool {
	if len(body) < largeAnswer {
		return true
	}
	for !a.take(c, body) {
		if !a.cutSlowest(time.Now().Add(-stallAfter)) {
			return false
		}
	}
	return true
}

func (a *connections) take(c *conn, body []byte) bool {
	first := &body[0]
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.closed.Load() { // it has left, and would never give it back
		return true
	}
	a.clearUnsent(c)
	u := a.answers[first]
	if u == nil {
		if a.unsent.Load()+int64(len(body)) > unsentBytes {
			return false
		}
		u = &unsent{bytes: len(body)}
		a.answers[first] = u
		a.unsent.Add(int64(len(body)))
	}
	u.clients++
	c.owed = first
	c.hasUnsent.Store(true)
	c.progress.Store(time.Now().UnixNano())
	return true
}

// clearUnsent takes the answer off the account that the client was to take. The lock is
// held.
func (a *connections) clearUnsent(c *conn) {
	u := a.answers[c.owed]
	if u == nil {
		return
	}
	if u.clients--; u.clients == 0 {
		a.unsent.Add(int64(-u.bytes))
		delete(a.answers, c.owed)
	}
	c.owed = nil
	c.hasUnsent.Store(false)
}

// cutSlowest closes the connection that has taken nothing for longest of what it is
// sent, if that is since before.
func (a *connections) cutSlowest(before time.Time) bool {
	var slowest *conn
	least := before.UnixNano()
	a.mu.Lock()
	for c := range a.all {
		if at := c.progress.Load(); c.hasUnsent.Load() && at < least {
			slowest, least = c, at
		}
	}
	a.mu.Unlock()
	if slowest == nil {
		return false
	}
	a.shed.Add(1)
	_ = slowest.cut()
	return true
}

// cutSlow closes the connection whose body comes most slowly, of those that are
// waited for and come at less than slowRate.
func (a *connections) cutSlow(now time.Time) {
	var slowest *conn
	least := slowRate
	a.mu.Lock()
	for c := range a.all {
		r := c.roll.Load()
		if r == nil || !r.waits.Load() {
			continue
		}
		age := now.Sub(r.began)
		if rate := float64(r.read.Load()) / age.Seconds(); age > slowAge && rate < least {
			slowest, least = c, rate
		}
	}
	a.mu.Unlock()
	if slowest != nil {
		a.shed.Add(1)
		_ = slowest.cut()
	}
}

// settle notes that a client has taken all.
func (a *connections) settle(c *conn) {
	if c.hasUnsent.Load() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.clearUnsent(c)
	}
}

// A listener outlives a lack of files, and hands out connections that were
// admitted.
type listener struct {
	net.Listener
	conns     *connections
	encrypted *tls.Config // nil: plain HTTP
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		switch {
		case err == nil:
			if c := l.conns.admit(raw, l.encrypted); c != nil {
				return c, nil
			}
			_ = raw.Close()
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			l.conns.log.Warn("no file is left for another connection; closing idle ones", "error", err)
			l.conns.shedIdle(func(*conn) bool { return true })
			time.Sleep(acceptPause)
		case errors.Is(err, syscall.ECONNABORTED):
		default:
			return nil, err
		}
	}
}
