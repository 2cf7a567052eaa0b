package query

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cairn/event"
	"cairn/internal/machine"
	"cairn/query/recent"
)

const (
	// memoryShare of the machine's memory, within these bounds in bytes, is for
	// the newest rows: about 100,000 to 700,000 of them.
	memoryShare    = 32
	minMemoryBytes = 32 << 20
	maxMemoryBytes = 256 << 20

	// wantedPages: so many pages within memoryLook make the memory worth its
	// upkeep, which costs the database a read of each new row.
	wantedPages = 8
	memoryLook  = 2 * time.Second
	// memoryRest is how long it is kept up after that.
	memoryRest = 10 * time.Second
	// fillRows are read at once to fill it: 1 ms of the database's time. With 4,096, pages
	// that were asked meanwhile took up to 10 ms longer, on two cores.
	fillRows = 512
	// maxBehind is how many rows the memory reads to catch up. Beyond it, as in
	// a bulk load, the newest ones are reread when there is time.
	maxBehind = 20_000
	// maxBehindEnvelopes is the same, of what is not read yet: one may hold a
	// single row.
	maxBehindEnvelopes = 20_000
	// catchUpPatience is how long a page waits for the memory to have what was
	// just announced: about what one reading takes.
	catchUpPatience = 20 * time.Millisecond
	// catchUpPause is how long no request waits after one has waited without success.
	catchUpPause = time.Second
	// floorEvery is how often the memory looks what retention has dropped.
	floorEvery = 5 * time.Second
)

// memoryBytes is what the newest rows may take of this machine, or of the part of
// it that a container has.
func memoryBytes() int {
	all, _ := machine.Memory()
	return int(min(max(all/memoryShare, minMemoryBytes), maxMemoryBytes))
}

// A memory is the newest rows, kept up by the tail, whose goroutine is the only one
// to change them.
type memory struct {
	rows   *recent.Rows
	older  func(below event.Position, limit int) ([]*change, event.Position, uint64, error)
	clock  func() time.Duration
	wanted chan struct{} // holds one: pages are asked for

	pages atomic.Int64 // since the last look
	looks atomic.Int64 // when that was
	until atomic.Int64 // when it is wanted no more
	hasty atomic.Int64 // until when nobody waits for it
	epoch atomic.Uint64
	valid atomic.Bool  // it was begun in that epoch
	floor atomic.Int64 // below it there is nothing any more

	pagesWhole, pagesBegun prometheus.Counter

	// These are the tail's alone.
	floorAt time.Duration // when it last looked what was dropped

	mu    sync.Mutex
	moved chan struct{} // closed when the rows are newer
}

func newMemory(bytes int, clock func() time.Duration, older func(event.Position, int) ([]*change, event.Position, uint64, error), r prometheus.Registerer) *memory {
	m := &memory{rows: recent.New(bytes), older: older, clock: clock, wanted: make(chan struct{}, 1), moved: make(chan struct{})}
	registerMemory(r, m)
	return m
}

// asked counts a page that the memory may answer.
func (m *memory) asked() {
	n, now := m.pages.Add(1), m.clock()
	if last := m.looks.Load(); now-time.Duration(last) > memoryLook && m.looks.CompareAndSwap(last, int64(now)) {
		m.pages.Store(1)
		return
	}
	if n == wantedPages {
		m.until.Store(int64(now + memoryRest))
		select {
		case m.wanted <- struct{}{}:
		default:
		}
	}
}

func (m *memory) inUse(now time.Duration) bool {
	return m != nil && now < time.Duration(m.until.Load())
}

// begin is where to follow from: where the rows are, unless that is too far from
// what the database shows.
func (m *memory) begin(shown uint64, epoch uint64) (sequence uint64) {
	at := m.rows.Sequence()
	if !m.stale(epoch) && at <= shown && shown-at <= maxBehindEnvelopes {
		return at
	}
	return m.restart(shown, epoch)
}

// want holds one where pages are asked for.
func (m *memory) want() <-chan struct{} {
	if m == nil {
		return nil
	}
	return m.wanted
}

// at is the row of that position, if it is there.
func (m *memory) at(p event.Position) (recent.Row, bool) {
	if m == nil {
		return recent.Row{}, false
	}
	return m.rows.At(p)
}

// stale reports whether the rows are of a database that has gone back since.
func (m *memory) stale(epoch uint64) bool {
	return m != nil && (!m.valid.Load() || m.epoch.Load() != epoch)
}

func (m *memory) restart(sequence, epoch uint64) uint64 {
	m.valid.Store(false)
	m.rows.Reset(sequence)
	m.epoch.Store(epoch)
	m.valid.Store(true)
	return sequence
}

func (m *memory) add(b batch) {
	if m == nil {
		return
	}
	sequence := b.upTo.Sequence()
	if b.upTo != event.EndOf(sequence) {
		sequence--
	}
	m.rows.Add(rowsOf(b.changes), sequence)
	m.floor.Store(int64(b.floor))
	m.rows.Drop(b.floor)
	m.mu.Lock()
	close(m.moved)
	m.moved = make(chan struct{})
	m.mu.Unlock()
}

// needsFloor reports whether it is time to look what was dropped.
func (m *memory) needsFloor() bool {
	if m == nil {
		return false
	}
	now := m.clock()
	return m.inUse(now) && now-m.floorAt > floorEvery
}

// drop takes away what retention has dropped.
func (m *memory) drop(floor event.Position, err error) {
	m.floorAt = m.clock()
	if err == nil {
		m.forget(floor)
	}
}

// forget takes away what is below a position.
func (m *memory) forget(floor event.Position) {
	m.floor.Store(int64(floor))
	m.rows.Drop(floor)
}

// fill reads some older rows, if there is room for them, and returns how long to
// pause: as long as it took, so that it takes at most half of a core.
func (m *memory) fill(pause time.Duration) time.Duration {
	if m == nil {
		return pause
	}
	low := m.rows.Low()
	begin := m.clock()
	if !m.inUse(begin) || low <= 1 || !m.rows.Room() {
		return pause
	}
	rows, from, sequence, err := m.older(low, fillRows)
	if err != nil || sequence < m.rows.Sequence() { // another replica, which is behind
		return pause
	}
	if from >= low { // there is nothing older
		from = 0
	}
	m.rows.Fill(rowsOf(rows), from)
	return m.clock() - begin
}

// has waits a moment for the rows to be as new as the sequence, unless that was in
// vain a moment ago, as on a replica that lags.
func (m *memory) has(sequence uint64) bool {
	var late <-chan time.Time
	now := m.clock()
	waits := m.inUse(now) && now > time.Duration(m.hasty.Load())
	for {
		m.mu.Lock()
		moved := m.moved
		m.mu.Unlock()
		if m.rows.Sequence() >= sequence {
			return true
		}
		if !waits {
			return false
		}
		if late == nil {
			timer := time.NewTimer(catchUpPatience)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-moved:
		case <-late:
			m.hasty.Store(int64(now + catchUpPause))
			return false
		}
	}
}

// walk hands the newest rows of a page to f, as [recent.Rows.Walk] does, if they are
// all that the database is known to have.
func (s *service) walk(ctx context.Context, q *recent.Query, f func(*recent.Row) bool) (from event.Position, sequence uint64, ok bool) {
	need := s.tracker.Target()
	s.memory.asked()
	epoch := s.tail.epoch.Load()
	if int64(q.Before) < s.memory.floor.Load() {
		return 0, 0, false // the database says that what was there was dropped
	}
	if !s.tracker.Current(need) || s.memory.stale(epoch) || !s.memory.has(need) {
		return 0, 0, false
	}
	from, sequence, ok = s.memory.rows.Walk(ctx, need, q, f)
	return from, sequence, ok && s.tail.epoch.Load() == epoch && !s.memory.stale(epoch)
}
