package faults

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/bus"
	"cairn/e2e/faults/lossy"
	"cairn/event"
	"cairn/internal/testkit"
	"cairn/internal/testrig"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var cuts = flag.Int("cuts", 12, "power cuts under a running ingest")

const (
	// cutWriters write at once, so that cuts fall into envelopes of several.
	cutWriters = 6
	// cutWithin is when a cut comes after the first acknowledged write.
	cutWithin = 400 * time.Millisecond
	// cutPadding is the size of some points, so that the store begins new blocks
	// and new files while it is cut.
	cutPadding = 60 << 10
)

// What ingest has acknowledged is there after a power cut, at the position that
// it said, and the store takes writes again.
func TestPowerCut(t *testing.T) {
	if !mayMount(t) {
		return
	}
	rng := rand.New(rand.NewPCG(*seed, 3))
	m := &machine{t: t, disk: lossy.New(), data: testkit.Folder(t), logs: t.TempDir(), acked: map[int64]string{}}
	store := filepath.Join(m.data, "jetstream")
	if err := os.Mkdir(store, 0o755); err != nil {
		t.Fatal(err)
	}
	for n := range *cuts + 1 {
		unmount := mount(t, m.disk, store)
		m.start(n == 0)
		if lost := m.missing(); lost > 0 {
			t.Errorf("seed %d, after cut %d: %d of %d acknowledged points are lost", *seed, n, lost, len(m.acked))
		}
		if n < *cuts && !t.Failed() {
			m.writeUntilCut(rng, n)
		}
		m.process.Kill()
		unmount()
		m.disk.Restore(rng, n%2 == 1)
		t.Logf("cut %d: %d points acknowledged so far, %d syncs", n+1, m.count, m.disk.Syncs())
		if t.Failed() {
			t.Log(m.process.Stdout.Tail())
			return
		}
	}
}

// A machine runs ingest on a disk.
type machine struct {
	t       *testing.T
	disk    *lossy.Disk
	data    string
	logs    string
	process *testrig.Process
	base    string
	js      jetstream.JetStream

	mu      sync.Mutex
	count   int
	acked   map[int64]string // name by position, of what was not trimmed
	last    uint64           // sequence that was acknowledged
	trimmed uint64           // what is below this sequence may be gone
}

func (m *machine) start(first bool) {
	m.t.Helper()
	ctx := m.t.Context()
	p, err := launch(m.logs, "ingest", "ingest", "--data", m.data, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--max-bytes", "1073741824")
	if err != nil {
		m.t.Fatal(err)
	}
	m.process = p
	m.t.Cleanup(p.Kill)
	queue, err := p.Says(ctx, testrig.QueueIsOpen)
	if err != nil {
		m.t.Fatal(err)
	}
	base, err := p.Says(ctx, testrig.Listening)
	if err != nil {
		m.t.Fatal(err)
	}
	m.base = base[1]
	nc, err := nats.Connect(queue[1], nats.UserInfo(bus.UserProjector, m.password(bus.UserProjector)))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(nc.Close)
	if m.js, err = jetstream.New(nc); err != nil {
		m.t.Fatal(err)
	}
	if first {
		if _, err := bus.CreateStream(ctx, m.js, 0, bus.DefaultMaxBytes); err != nil {
			m.t.Fatal(err)
		}
	}
}

// password is a NATS user's, as ingest has made it.
func (m *machine) password(user string) string {
	text, err := os.ReadFile(filepath.Join(m.data, "nats-passwords"))
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, password, _ := strings.Cut(strings.TrimSpace(line), " "); name == user {
			return password
		}
	}
	m.t.Fatalf("there is no password of %s", user)
	return ""
}

// missing counts the acknowledged points that are not where they should be.
func (m *machine) missing() (lost int) {
	m.t.Helper()
	if len(m.acked) == 0 {
		return 0
	}
	s, err := m.js.Stream(m.t.Context(), bus.Stream)
	if err != nil {
		m.t.Errorf("the stream: %v", err)
		return len(m.acked)
	}
	messages := map[uint64][][]byte{}
	for position, name := range m.acked {
		sequence := event.Position(position).Sequence()
		if sequence < m.trimmed {
			delete(m.acked, position)
			continue
		}
		if _, ok := messages[sequence]; !ok {
			message, err := s.GetMsg(m.t.Context(), sequence)
			if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				m.t.Errorf("message %d: %v", sequence, err)
			}
			if err == nil {
				messages[sequence] = bytes.Split(message.Data, []byte("\n"))
			}
		}
		index := int(position - int64(event.At(sequence, 0)))
		if lines := messages[sequence]; index >= len(lines) || !bytes.Contains(lines[index], []byte(`"`+name+`"`)) {
			lost++
		}
	}
	return lost
}

// writeUntilCut writes, and cuts the power at a random moment.
func (m *machine) writeUntilCut(rng *rand.Rand, n int) {
	m.t.Helper()
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	if err := testrig.Until(ctx, settleBound, "ingest is ready", func(ctx context.Context) error { return testrig.GetJSON(ctx, m.base+"/readyz", nil) }); err != nil {
		m.t.Fatal(err)
	}
	var group sync.WaitGroup
	first := make(chan struct{})
	once := sync.OnceFunc(func() { close(first) })
	for w := range cutWriters {
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				p := testrig.NewPoint(fmt.Sprintf("c%d.w%d.%d", n, w, i)).Called(fmt.Sprintf("c%d.w%d.%d", n, w, i), false)
				if w == 0 {
					p.Padding = cutPadding
				}
				if !m.send(ctx, p) {
					return
				}
				once()
			}
		})
	}
	select {
	case <-first:
		if n%3 == 0 {
			_ = testrig.Pause(ctx, upTo(rng, cutWithin))
			m.trim()
		}
		_ = testrig.Pause(ctx, upTo(rng, cutWithin))
	case <-time.After(settleBound):
		m.t.Error("no write is acknowledged")
	}
	m.disk.Cut()
	cancel()
	group.Wait()
}

// trim removes what is old, as the projector does behind itself.
func (m *machine) trim() {
	const keep = 20 // messages
	m.mu.Lock()
	m.trimmed = max(m.trimmed, max(m.last, keep)-keep)
	below := m.trimmed
	m.mu.Unlock()
	s, err := m.js.Stream(m.t.Context(), bus.Stream)
	if err == nil {
		err = s.Purge(m.t.Context(), jetstream.WithPurgeSequence(below))
	}
	if err != nil {
		m.t.Errorf("trim below %d: %v", below, err)
	}
}

// send reports whether the point was acknowledged.
func (m *machine) send(ctx context.Context, p *testrig.Point) bool {
	r := testrig.NewRequest(testrig.FormPoint, "", p)
	a, err := testrig.Do(ctx, http.MethodPost, m.base+r.Path, r.Media, bytes.NewReader(r.Body))
	if err != nil || a.Status != http.StatusAccepted {
		return false
	}
	position, err := accepted(r, a.Body)
	m.mu.Lock()
	defer m.mu.Unlock()
	if other, taken := m.acked[position]; taken || err != nil {
		m.t.Errorf("%s was acknowledged at %d, as %q was before: %v", p.Name, position, other, err)
	}
	m.acked[position] = p.Name
	m.count++
	m.last = max(m.last, event.Position(position).Sequence())
	return true
}

// The same disk under a NATS server as it comes, which syncs every two minutes,
// loses what it acknowledged; with SyncAlways it loses nothing. So the disk
// does drop what was not synced, and the setting is what keeps the promise.
func TestPowerCutWithoutSync(t *testing.T) {
	if !mayMount(t) {
		return
	}
	for _, always := range []bool{false, true} {
		d := lossy.New()
		folder := t.TempDir()
		unmount := mount(t, d, folder)
		acked := publishUntilCut(t, d, folder, always)
		unmount()
		d.Restore(rand.New(rand.NewPCG(*seed, 4)), false)
		unmount = mount(t, d, folder)
		there := stored(t, folder, always)
		unmount()
		t.Logf("SyncAlways %v: %d messages acknowledged, %d there after the cut", always, acked, there)
		if always && there < acked {
			t.Errorf("%d of %d are lost with SyncAlways", acked-there, acked)
		}
		if !always && there >= acked {
			t.Errorf("nothing is lost without SyncAlways: does the disk drop anything?")
		}
	}
}

// plainServer runs a NATS server on the folder.
func plainServer(t *testing.T, folder string, always bool) (*server.Server, jetstream.JetStream) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: folder,
		SyncAlways: always, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(settleBound) {
		t.Fatal("the server does not start")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return s, js
}

func publishUntilCut(t *testing.T, d *lossy.Disk, folder string, always bool) (acked int) {
	t.Helper()
	const messages = 300
	s, js := plainServer(t, folder, always)
	if _, err := bus.CreateStream(t.Context(), js, 0, bus.MinMaxBytes); err != nil {
		t.Fatal(err)
	}
	d.SyncAll() // the stream itself is there, whatever the setting
	for range messages {
		if _, err := js.Publish(t.Context(), bus.Subject, []byte("a message")); err != nil {
			t.Fatal(err)
		}
		acked++
	}
	d.Cut()
	s.Shutdown()
	s.WaitForShutdown()
	return acked
}

func stored(t *testing.T, folder string, always bool) int {
	t.Helper()
	s, js := plainServer(t, folder, always)
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	stream, err := js.Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	return int(stream.CachedInfo().State.Msgs) //nolint:gosec // a few hundred
}
