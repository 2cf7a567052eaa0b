package answer

import (
	"container/list"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// Bytes bounds what is cached of answers, in bytes. It is about 200
	// pages of the usual size in two codings, a few times what a map's users
	// look at between two commits; older answers are seldom asked for again
	// before the projection moves.
	Bytes = 64 << 20
	// requestBytes is what a request costs beside its answer and its names.
	requestBytes = 1 << 10
	// maxNames bounds the spellings under which one request is found without
	// being parsed. Clients are programs: each spells in one way.
	maxNames = 4
)

// A Cache finds requests by how they were spelled, and answers them. It is
// bounded by bytes; the least recently asked go first. What it evicts still
// answers those who hold it.
type Cache struct {
	again   func(error, time.Duration) bool // nil: never
	log     *slog.Logger
	tracker *Tracker
	metrics *metrics
	// stopping ends the waits, not the statements, which are bounded anyhow
	// and which a drain lets finish.
	stopping context.Context
	bound    int

	mu     sync.Mutex
	byName map[string]*Request
	recent list.List // of *Request, the latest first
	bytes  int
}

// NewCache makes a cache of at most bound bytes, whose waits end with stopping.
func NewCache(stopping context.Context, t *Tracker, log *slog.Logger, r prometheus.Registerer, bound int) *Cache {
	c := &Cache{log: log, tracker: t, stopping: stopping, bound: bound, byName: map[string]*Request{}}
	c.metrics = newMetrics(r, c)
	return c
}

// Again sets the function that decides whether a request that failed is to be run again, after so
// long; it may wait before it says so. It is called before the first request.
func (c *Cache) Again(again func(err error, after time.Duration) bool) { c.again = again }

// Find returns the request that was spelled in these bytes before, or nil.
func (c *Cache) Find(name []byte) *Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.byName[string(name)]
	if r != nil {
		c.recent.MoveToFront(r.place)
	}
	return r
}

// Add returns the request with this key: the one that is cached, or a new one
// whose answers run makes. It is found under name from now on, where that is
// not "".
func (c *Cache) Add(key, name string, run func() (Answer, error)) *Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.byName[key]
	if r == nil {
		r = &Request{key: key, run: run}
		r.place = c.recent.PushFront(r)
		c.charge(r, requestBytes)
		c.name(r, key)
	} else {
		c.recent.MoveToFront(r.place)
	}
	if name != "" && name != key && len(r.names) < maxNames {
		c.name(r, name)
	}
	c.shrink()
	return r
}

func (c *Cache) name(r *Request, name string) {
	c.byName[name] = r
	r.names = append(r.names, name)
	c.charge(r, len(name))
}

// grow says that the request has n bytes more than before, or fewer.
func (c *Cache) grow(r *Request, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.place != nil {
		c.charge(r, n)
		c.shrink()
	}
}

func (c *Cache) charge(r *Request, n int) {
	r.bytes += n
	c.bytes += n
}

func (c *Cache) shrink() {
	for c.bytes > c.bound && c.recent.Len() > 0 {
		c.drop(c.recent.Back().Value.(*Request))
	}
}

func (c *Cache) drop(r *Request) {
	for _, name := range r.names {
		delete(c.byName, name)
	}
	c.recent.Remove(r.place)
	c.bytes -= r.bytes
	r.place = nil
}

// Clear evicts everything.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.recent.Len() > 0 {
		c.drop(c.recent.Front().Value.(*Request))
	}
}

// Size is how many bytes are cached.
func (c *Cache) Size() int {
	_, bytes := c.stat()
	return bytes
}

func (c *Cache) stat() (requests, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len(), c.bytes
}
