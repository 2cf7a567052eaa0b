package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

var soakFor = flag.Duration("soak", 15*time.Second, "how long TestSoak lasts; make soak has it last 20 minutes")

const (
	// soakStarts is how often the server is started: it is stopped in order between.
	soakStarts = 3
	// At the end, when all clients have left, the server may have this much more than
	// its process had at rest: goroutines and files of pools that grew; of what the last
	// collections of garbage left, beside the rows and answers that are kept on purpose,
	// pools, labels of metrics and what is known of keys; and of resident memory those
	// rows and answers (256 and 64 MiB at most) and garbage.
	soakGoroutines = 50
	soakFiles      = 50
	soakLive       = 24 << 20
	soakBytes      = 320 << 20
	// soakCollections of garbage leave nothing that is not in use: what is in a pool goes
	// with the second.
	soakCollections = 3
	// soakSteady is by how much what is held on purpose may differ before and after a
	// collection that counts: else one is told of another time than the other.
	soakSteady = 2 << 20
	// soakLeast is what honest clients must have got, of each, beside all attackers: a
	// small machine that is busy otherwise gives them this in the shortest soak.
	soakLeast = 10
	// soakCheckers look for what was acknowledged at once.
	soakCheckers = 8
	// settleBound bounds the wait for that: the longest deadline of a client is that of
	// its silence (75 s), and the runtime gives memory back in its own time.
	settleBound = 5 * time.Minute
)

// Writers, readers and streams continue beside attackers of each kind and restarts. At the
// end the process has what it had at rest, and each acknowledged point is there.
func TestSoak(t *testing.T) {
	data := testrig.PreparedFolder(t)
	command := cairn("serve", "--listen", testrig.FreePort(t), "--nats-listen", testrig.FreePort(t), "--data", data,
		"--auth", "keys", "--trusted-proxies", "127.0.0.1")
	s := command.Serve(t)
	k := &soak{key: addKey(t, s, data, "honest", "read,write,edit,admin"), base: s.Base, acknowledged: map[string]bool{}}
	testkit.Eventually(t, testrig.Patience, "the key holds", func() bool { return k.get(t.Context(), "/status") == http.StatusOK })
	mallory := addKey(t, s, data, "mallory", "read,write")
	k.fill(t)
	var rest levels
	for n := range soakStarts {
		if n > 0 {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			s = command.Serve(t)
		}
		testkit.Eventually(t, testrig.Patience, "the keys are known", func() bool { return k.get(t.Context(), "/points?limit=10") == http.StatusOK })
		if rest = k.levels(t, s); n == soakStarts-1 {
			rest = k.collected(t, s) // what the end is compared with
		}
		ctx, cancel := context.WithTimeout(t.Context(), *soakFor/soakStarts)
		k.run(ctx, mallory)
		cancel()
		at := k.levels(t, s)
		t.Logf("start %d: at rest %v, at the end of the attacks %v; %s", n+1, rest, at, &k.counts)
	}
	var now levels
	if err := testrig.Until(t.Context(), settleBound, "it is at rest again", func(context.Context) error {
		now = k.collected(t, s)
		return now.beyond(rest)
	}); err != nil {
		t.Errorf("at rest %v: %v", rest, err)
	}
	t.Logf("when all have left %v", now)
	k.check(t)
	s.Leave()
}

// levels are what a process holds.
type levels struct {
	goroutines, files int
	resident          int64
	live, kept        int64 // bytes of the heap after a collection; of them those kept on purpose
	collections       int64
}

func (l levels) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %d MiB live of which %d are kept on purpose, %d MiB resident", l.goroutines, l.files, l.live>>20, l.kept>>20, l.resident>>20)
}

// beyond says what is more than at rest and may not be.
func (l levels) beyond(rest levels) error {
	if l.goroutines > rest.goroutines+soakGoroutines || l.files > rest.files+soakFiles || l.resident > rest.resident+soakBytes ||
		l.live-l.kept > rest.live-rest.kept+soakLive {
		return fmt.Errorf("it has %v", l)
	}
	return nil
}

func (k *soak) levels(t *testing.T, s *testrig.Server) levels {
	t.Helper()
	a, err := k.do(t.Context(), http.MethodGet, "/metrics", "", "")
	files, err2 := os.ReadDir(filepath.Join("/proc", strconv.Itoa(s.PID()), "fd"))
	if err != nil || err2 != nil {
		t.Fatal(err, err2, a.Status)
	}
	value := func(name string) int64 {
		found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(a.Body)
		if found == nil {
			t.Fatalf("%d: there is no metric %s", a.Status, name)
		}
		n, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return int64(n)
	}
	return levels{int(value("go_goroutines")), len(files), residentBytes(t, s.PID()),
		value("go_gc_heap_live_bytes"), value("cairn_query_held_bytes"), value("go_gc_duration_seconds_count")}
}

// collected are the levels after some collections of garbage: only those tell a leak from
// what nobody has needed to clear away. Reads of large pages bring them about, until what
// is held on purpose is as much as it may be.
func (k *soak) collected(t *testing.T, s *testrig.Server) (now levels) {
	t.Helper()
	before := k.levels(t, s)
	begun := before.collections
	if err := testrig.Until(t.Context(), settleBound, "garbage is collected", func(ctx context.Context) error {
		for range 4 {
			k.seen++
			k.get(ctx, fmt.Sprintf("/points?name=large&limit=100&bbox=-1,0,180.%d,90", k.seen))
		}
		now = k.levels(t, s)
		counts := now.collections > before.collections && now.collections >= begun+soakCollections
		change := now.kept - before.kept
		before = now
		if !counts || max(change, -change) > soakSteady {
			return fmt.Errorf("%d collections, and what is kept has changed by %d bytes", now.collections-begun, change)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	return now
}

// A soak is what continues, and what became of it.
type soak struct {
	key, base string
	seen      int // pages that were read to have garbage collected

	mu           sync.Mutex
	acknowledged map[string]bool // ids
	counts       soakCounts
}

// soakCounts are of answers to honest clients, and of what the attackers did.
type soakCounts struct{ points, pages, events, refused, attacks int }

func (c *soakCounts) String() string {
	return fmt.Sprintf("so far %d points acknowledged, %d pages, %d events, %d requests refused or broken, %d attacks", c.points, c.pages, c.events, c.refused, c.attacks)
}

func (k *soak) count(what func(*soakCounts)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	what(&k.counts)
}

// run has all of them continue until ctx ends. Honest clients must get on meanwhile.
func (k *soak) run(ctx context.Context, mallory string) {
	var group sync.WaitGroup
	for n := range 3 {
		group.Go(func() { k.write(ctx, n) })
		group.Go(func() { k.read(ctx, n) })
		group.Go(func() { k.follow(ctx) })
	}
	for n, a := range attacks {
		group.Go(func() {
			for ctx.Err() == nil {
				a.run(ctx, &attacker{n: n, base: k.base, key: mallory})
				k.count(func(c *soakCounts) { c.attacks++ })
			}
		})
	}
	group.Wait()
}

// check looks for all that was acknowledged.
func (k *soak) check(t *testing.T) {
	t.Helper()
	if k.counts.points < soakLeast || k.counts.pages < soakLeast || k.counts.events < soakLeast {
		t.Errorf("honest clients did not get on: %s", &k.counts)
	}
	ids := make(chan string)
	var group sync.WaitGroup
	for range soakCheckers {
		group.Go(func() {
			for id := range ids {
				if err := testrig.Until(t.Context(), testrig.Patience, "it is projected", func(ctx context.Context) error {
					if status := k.get(ctx, "/points/"+id); status != http.StatusOK {
						return fmt.Errorf("the status is %d", status)
					}
					return nil
				}); err != nil {
					t.Errorf("the point %s was acknowledged, and is lost: %v", id, err)
				}
			}
		})
	}
	for id := range k.acknowledged {
		ids <- id
	}
	close(ids)
	group.Wait()
}
