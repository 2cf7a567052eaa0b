package query

import (
	"container/list"
	"sync"
)

const (
	// cacheBytes bounds what is kept of answers, in bytes. It is about 200
	// pages of the usual size in two codings, a few times what a map's users
	// look at between two commits; older answers are seldom asked for again
	// before the projection moves.
	cacheBytes = 64 << 20
	// questionBytes is what a question costs beside its answer and its names.
	questionBytes = 1 << 10
	// maxNames bounds the spellings under which one question is found without
	// being parsed. Clients are programs: each spells in one way.
	maxNames = 4
)

// A cache finds questions by how they were asked. It is bounded by bytes; the
// least recently asked go first. What it lets go of still answers those who
// hold it.
type cache struct {
	bound int

	mu     sync.Mutex
	byName map[string]*question
	recent list.List // of *question, the latest first
	bytes  int
}

func newCache(bound int) *cache {
	return &cache{bound: bound, byName: map[string]*question{}}
}

// find returns the question that was asked in these bytes before, or nil.
func (c *cache) find(name []byte) *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.byName[string(name)]
	if q != nil {
		c.recent.MoveToFront(q.place)
	}
	return q
}

// add returns the question with q's key: the one that is kept, or q. It is
// found under name from now on, where that is not "".
func (c *cache) add(q *question, name string) *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.byName[q.key]
	if kept == nil {
		kept = q
		kept.place = c.recent.PushFront(kept)
		c.charge(kept, questionBytes)
		c.name(kept, kept.key)
	} else {
		c.recent.MoveToFront(kept.place)
	}
	if name != "" && name != kept.key && len(kept.names) < maxNames {
		c.name(kept, name)
	}
	c.shrink()
	return kept
}

func (c *cache) name(q *question, name string) {
	c.byName[name] = q
	q.names = append(q.names, name)
	c.charge(q, len(name))
}

// grow says that the question has n bytes more than before, or fewer.
func (c *cache) grow(q *question, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.place != nil {
		c.charge(q, n)
		c.shrink()
	}
}

func (c *cache) charge(q *question, n int) {
	q.bytes += n
	c.bytes += n
}

func (c *cache) shrink() {
	for c.bytes > c.bound && c.recent.Len() > 0 {
		c.drop(c.recent.Back().Value.(*question))
	}
}

func (c *cache) drop(q *question) {
	for _, name := range q.names {
		delete(c.byName, name)
	}
	c.recent.Remove(q.place)
	c.bytes -= q.bytes
	q.place = nil
}

// clear lets go of everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.recent.Len() > 0 {
		c.drop(c.recent.Front().Value.(*question))
	}
}

func (c *cache) stat() (questions, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len(), c.bytes
}
