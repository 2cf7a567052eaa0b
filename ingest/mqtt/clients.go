package mqtt

import (
	"container/list"
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// largeBytes bounds the packets of more than idleBufferBytes that come or are being stored, in
// bytes, over all connections: 120 of the largest. One address has as large a part of them
// as of the connections.
const largeBytes = 32 << 20

// clients are all that are connected. Where there are too many, in all or of one
// address, those go first that have said nothing yet, the oldest of them first: a flood
// of idle connections neither keeps clients out nor disconnects those that have logged in.
type clients struct {
	most int
	// share is whose a connection from an address is, and how many of most those may have.
	share func(address net.Addr, most int) (owner netip.Addr, share int)

	mu        sync.Mutex
	all       map[*client]struct{}
	byOwner   map[netip.Addr]int
	strangers list.List // of *client: who has not logged in, the oldest first
	// held are the bytes of large packets that come or are being stored, of each owner, and
	// holds those of all.
	held  map[netip.Addr]int
	holds int
	// refused and dropped are counted for the metrics.
	refused, dropped float64
}

func newClients(cfg *Config) *clients {
	a := &clients{most: maxClients, share: cfg.Share, all: map[*client]struct{}{}, byOwner: map[netip.Addr]int{}, held: map[netip.Addr]int{}}
	if cfg.Most > 0 {
		a.most = min(cfg.Most, maxClients)
	}
	if a.share == nil {
		a.share = func(_ net.Addr, most int) (netip.Addr, int) { return netip.Addr{}, most }
	}
	return a
}

func (a *clients) register(r prometheus.Registerer) {
	locked := func(value func() float64) func() float64 {
		return func() float64 {
			a.mu.Lock()
			defer a.mu.Unlock()
			return value()
		}
	}
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cairn_mqtt_connections", Help: "MQTT connections that are open."},
			locked(func() float64 { return float64(len(a.all)) })),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cairn_mqtt_connections_shed_total", Help: "MQTT connections closed to make room: of clients that had not logged in."},
			locked(func() float64 { return a.dropped })),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cairn_mqtt_connections_refused_total", Help: "MQTT connections refused because there were too many, in all or from one client address."},
			locked(func() float64 { return a.refused })),
	)
}

// enter takes a connection in, or reports that there is no room for it.
func (a *clients) enter(c *client, from net.Addr) bool {
	owner, share := a.share(from, a.most)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.room(owner, share) {
		return false
	}
	if len(a.all) >= a.most && !a.shed(func(*client) bool { return true }) {
		a.refused++
		return false
	}
	a.all[c] = struct{}{}
	c.owner, c.place = owner, a.strangers.PushBack(c)
	a.byOwner[owner]++
	return true
}

// move counts the connection as another address', and reports whether that may have one
// more.
func (a *clients) move(c *client, to net.Addr) bool {
	owner, share := a.share(to, a.most)
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, there := a.all[c]; !there { // it was shed
		return false
	}
	if owner == c.owner {
		return true
	}
	if !a.room(owner, share) {
		return false
	}
	a.uncount(c.owner)
	c.owner = owner
	a.byOwner[owner]++
	return true
}

// room makes room for one more connection of the owner. The lock is held.
func (a *clients) room(owner netip.Addr, share int) bool {
	if a.byOwner[owner] < share || a.shed(func(o *client) bool { return o.owner == owner }) {
		return true
	}
	a.refused++
	return false
}

// loggedIn notes that the client is no stranger any more.
func (a *clients) loggedIn(c *client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.introduce(c)
}

func (a *clients) introduce(c *client) {
	if c.place != nil {
		a.strangers.Remove(c.place)
		c.place = nil
	}
}

func (a *clients) leave(c *client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(c)
}

// remove takes the connection out. The lock is held.
func (a *clients) remove(c *client) {
	if _, there := a.all[c]; !there {
		return
	}
	delete(a.all, c)
	a.introduce(c)
	a.uncount(c.owner)
}

func (a *clients) uncount(owner netip.Addr) {
	if a.byOwner[owner]--; a.byOwner[owner] == 0 {
		delete(a.byOwner, owner)
	}
}

// shed closes the oldest stranger that which picks, if there is one. The lock is held.
func (a *clients) shed(which func(*client) bool) bool {
	for e := a.strangers.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*client); which(c) {
			a.remove(c)
			a.dropped++
			_ = c.raw.Close()
			return true
		}
	}
	return false
}

// hold takes room for a large packet, if there is any.
func (a *clients) hold(c *client, bytes int) bool {
	_, share := a.share(c.conn.RemoteAddr(), largeBytes)
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, there := a.all[c]; !there || a.holds+bytes > largeBytes || a.held[c.owner]+bytes > share {
		return false
	}
	c.holds = bytes
	a.holds += bytes
	a.held[c.owner] += bytes
	return true
}

// giveBack gives back what the client holds.
func (a *clients) giveBack(c *client) {
	if c.holds == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.holds -= c.holds
	if a.held[c.owner] -= c.holds; a.held[c.owner] == 0 {
		delete(a.held, c.owner)
	}
	c.holds = 0
}
