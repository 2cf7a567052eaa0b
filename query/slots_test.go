package query

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/query/filter"
)

// begin asks for something large as a proxy does for a client, and reads the status.
func (f *fixture) begin(path, client string) (status string, conn net.Conn) {
	f.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.base, "http://"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: cairn\r\nX-Forwarded-For: %s\r\n\r\n", path, client)
	_ = conn.SetReadDeadline(time.Now().Add(within))
	line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Fields(line)[1], conn
}

func (s *slots) barrenAfter(age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barren = age
}

// fruitless is a filter that takes long to find that nothing passes it.
var fruitless = func() string {
	var terms []string
	for i := range filter.MaxComparisons {
		terms = append(terms, fmt.Sprintf("a=%d", i))
	}
	return "filter=" + url.QueryEscape(strings.Join(terms, " OR "))
}()

// search asks for something that is looked for in vain, and waits until it is.
func (f *fixture) search(path string) net.Conn {
	f.t.Helper()
	before := f.searches()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.base, "http://"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "GET %s?%s HTTP/1.1\r\nHost: cairn\r\n\r\n", path, fruitless)
	testkit.Eventually(f.t, within, "the database searches", func() bool { return f.searches() > before })
	return conn
}

// searches is how many statements of downloads and tracks are running.
func (f *fixture) searches() (n int) {
	f.t.Helper()
	err := f.db.QueryRow(f.t.Context(), `select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
		and state = 'active' and (query like '%jsonb%points_1%' or query like '%points_1%jsonb%' or query like 'fetch % from fixes_%')`).Scan(&n)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// What is looked for in vain ends when its client leaves, and the place is free; and it
// gives its place to others when it has brought nothing for long.
func TestFruitlessSearches(t *testing.T) {
	f := newItems(t)
	// 200,000 rows take such a filter a minute and more.
	f.exec(`insert into points_1 (id, position, name, geom, observed_at, received_at, properties)
		select gen_random_uuid(), 8192 + i, 'long', ST_SetSRID(ST_MakePoint(1 + i / 1e6, 2), 4326), now() + i * interval '1 s', now(), jsonb_build_object('a', -i, 'pad', repeat('x', 100))
		from generate_series(1, 200000) i`)
	f.exec(`insert into latest (id, position, name, geom, received_at, since) select id, position, name, geom, received_at, position from points_1 where position = 8192 + 200000`)
	for _, test := range []struct {
		path, other string
		slots       *slots
	}{{"/points.csv", "/points.csv?name=nobody", f.downloads}, {"/tracks/long", "/tracks?limit=1", f.tracks}} {
		t.Run(test.path, func(t *testing.T) {
			fill := func() (open []net.Conn) {
				for range cap(test.slots.free) {
					open = append(open, f.search(test.path))
				}
				return open
			}
			idle := func() bool { return len(test.slots.free) == 0 && f.searches() == 0 }
			for _, conn := range fill() {
				_ = conn.Close()
			}
			testkit.Eventually(t, within, "the places of those who left are free, and the database does nothing for them", idle)
			open := fill()
			if r := f.get(test.other); r.status != http.StatusServiceUnavailable {
				t.Errorf("where others have searched for a while: %d", r.status)
			}
			test.slots.barrenAfter(0)
			if r := f.get(test.other); r.status != http.StatusOK {
				t.Errorf("where others have searched for long: %d", r.status)
			}
			test.slots.barrenAfter(barrenAge)
			for _, conn := range open {
				_ = conn.Close()
			}
			testkit.Eventually(t, within, "all end", idle)
		})
	}
}

func (s *slots) creepAfter(age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age = age
}

// Of downloads and of tracks one client has a part, also behind a proxy; and those whose
// answers creep give their places to others.
func TestSeats(t *testing.T) {
	f := newItems(t)
	f.exec(`insert into points_1 (id, position, name, geom, observed_at, received_at, properties)
		select gen_random_uuid(), 8192 + i, 'long', ST_SetSRID(ST_MakePoint(1 + i / 1e6, 2), 4326), now() + i * interval '1 s', now(), jsonb_build_object('pad', repeat('x', 100))
		from generate_series(1, 100000) i`)
	f.exec(`insert into latest (id, position, name, geom, received_at, since) select id, position, name, geom, received_at, position from points_1 where position = 8192 + 100000`)
	for _, test := range []struct {
		path  string
		slots *slots
		share int
	}{{"/points.ndjson", f.downloads, maxDownloads / addressDownloads}, {"/tracks/long", f.tracks, maxTracks / addressTracks}} {
		t.Run(test.path, func(t *testing.T) {
			test.slots.creepAfter(time.Hour)
			var open []net.Conn
			for i := range cap(test.slots.free) {
				status, conn := f.begin(test.path, fmt.Sprintf("203.0.113.%d", i/test.share))
				if status != "200" {
					t.Fatalf("number %d: %s", i, status)
				}
				open = append(open, conn)
			}
			if r := f.do(http.MethodGet, test.path, "X-Forwarded-For", "203.0.113.0"); r.status != http.StatusTooManyRequests || r.header.Get("Retry-After") == "" {
				t.Errorf("one more of a client that has its share: %d %v", r.status, r.header)
			}
			if r := f.do(http.MethodGet, test.path, "X-Forwarded-For", "198.51.100.1"); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
				t.Errorf("where all slots are taken: %d %v", r.status, r.header)
			}
			test.slots.creepAfter(100 * time.Millisecond)
			if status, conn := f.begin(test.path, "198.51.100.1"); status != "200" {
				t.Errorf("where all others creep: %s", status)
			} else {
				_ = conn.Close()
			}
			for _, conn := range open {
				_ = conn.Close()
			}
			testkit.Eventually(t, within, "all slots are free", func() bool { return len(test.slots.free) == 0 })
		})
	}
}

// What a client takes in its own time does not creep, however long the whole takes; what
// a socket took at once is soon forgotten.
func TestPace(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name  string
		bytes []int // each taken within a second
		still time.Duration
		creep bool
	}{
		{"a good line", []int{1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20}, 0, false},
		{"a slow line", []int{20 << 10, 20 << 10, 20 << 10, 20 << 10, 20 << 10, 20 << 10, 20 << 10, 20 << 10}, 0, false},
		{"a creeping one", []int{1 << 10, 1 << 10, 1 << 10, 1 << 10, 1 << 10, 1 << 10, 1 << 10}, 0, true},
		{"one that has just begun", []int{1 << 10, 1 << 10}, 0, false},
		{"one that stands still", []int{8 << 20}, slowAge + time.Second, true},
		{"one that pauses", []int{8 << 20}, slowAge - time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, at := &slot{}, now
			for _, n := range test.bytes {
				s.gave(n, at)
				at = at.Add(time.Second)
				s.took(at)
			}
			if test.still > 0 {
				s.gave(1, at)
				at = at.Add(test.still)
			}
			rate, old := s.pace(at, slowAge)
			if creeps := old && rate < slowRate; creeps != test.creep {
				t.Errorf("%.0f bytes a second, old %v", rate, old)
			}
		})
	}
}
