package answer

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cairn/internal/testkit"
)

func TestCacheIsBounded(t *testing.T) {
	tracker := NewTracker(nil, func() {})
	c := NewCache(t.Context(), tracker, testkit.Log(t), prometheus.NewRegistry(), 10*requestBytes)
	add := func(key string, names ...string) *Request {
		q := c.Add(key, "", nil)
		for _, name := range names {
			if got := c.Add(key, name, nil); got != q {
				t.Fatalf("%s is another request under %s", key, name)
			}
		}
		return q
	}
	a := add("a", "a1", "a2", "a3", "a4", "a5")
	if c.Find([]byte("a3")) != a || c.Find([]byte("a5")) != nil {
		t.Error("a request is found under its first few spellings")
	}
	for i := range 20 {
		add(fmt.Sprint(i))
		c.Find([]byte("a1")) // keeps it
	}
	if n, bytes := c.stat(); n != 9 || bytes > c.bound || c.Find([]byte("a")) != a {
		t.Errorf("%d requests, %d bytes", n, bytes)
	}
	c.grow(a, 5*requestBytes)
	if n, bytes := c.stat(); n >= 6 || bytes > c.bound || c.Find([]byte("19")) == nil {
		t.Errorf("after one has grown: %d requests, %d bytes", n, bytes)
	}
	c.grow(a, 10*requestBytes) // larger than the cache
	c.grow(a, 1)               // and gone
	if n, bytes := c.stat(); n > 1 || bytes > 2*requestBytes || c.Find([]byte("a")) != nil {
		t.Errorf("after one too large: %d requests, %d bytes, %d names", n, bytes, len(c.byName))
	}
	add("b", "b1")
	c.Clear()
	if n, bytes := c.stat(); n != 0 || bytes != 0 || len(c.byName) != 0 {
		t.Errorf("after clear: %d requests, %d bytes, %d names", n, bytes, len(c.byName))
	}
}
