package projector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/hosts"
	"cairn/internal/postgres"
	"cairn/internal/testkit"

	"github.com/jackc/pgx/v5"
)

// failoverPatience is for a promotion on a busy machine.
const failoverPatience = time.Minute

// fillPatience is for 64 MiB, each half a megabyte with a sync.
const fillPatience = 5 * time.Minute

// servers are a primary, which the projector is told first, and its standby.
type servers struct {
	*bench
	primary, standby *postgres.Cluster
	url              string // of both
}

func newServers(t *testing.T) *servers {
	t.Helper()
	s := &servers{primary: testkit.OwnCluster(t)}
	s.standby = testkit.Standby(t, s.primary, "second")
	s.url = postgres.ServersURL(s.primary, s.standby)
	s.bench = newBenchOn(t, s.url)
	return s
}

// on asks one of them.
func (s *servers) on(c *postgres.Cluster, sql string, into ...any) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), c.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(s.t.Context()))
	if err := conn.QueryRow(s.t.Context(), sql).Scan(into...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// has waits until a server has a number of points, all of them up to a position.
func (s *servers) has(c *postgres.Cluster, points int, last event.Position) {
	s.t.Helper()
	testkit.Eventually(s.t, failoverPatience, fmt.Sprintf("%d points up to %d", points, last), func() bool {
		var n, sequence int64
		s.on(c, `select (select count(*) from points), sequence from checkpoint`, &n, &sequence)
		return n == int64(points) && sequence >= int64(last.Sequence()) //nolint:gosec // small
	})
}

func (s *servers) points(from, to int) (last event.Position) {
	s.t.Helper()
	for i := from; i < to; i++ {
		last = s.publish(line(fmt.Sprintf("p%d", i), `{}`))
	}
	return last
}

// The primary dies while its standby lacks what came last; the standby is promoted.
// The projection continues there, with what it lacked, and the old primary, which comes
// back as if nothing had happened and is the first in the list, is not used.
func TestFollowsThePromotion(t *testing.T) {
	s := newServers(t)
	stop := s.start()
	s.has(s.standby, 10, s.points(0, 10))
	if err := s.standby.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.has(s.primary, 20, s.points(10, 20))
	if err := s.primary.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := s.points(20, 30)
	if err := s.standby.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.has(s.standby, 30, last)
	if err := s.primary.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.has(s.standby, 40, s.points(30, 40))
	stop()
	s.start() // the first in its list is the primary of before
	s.has(s.standby, 50, s.points(40, 50))
	s.has(s.primary, 20, 1)
	if st := s.status(); st.Standbys == nil || st.Standbys.Timeline != 2 {
		t.Errorf("standbys: %+v", st.Standbys)
	}
	// With nobody else there, it says why it does not continue.
	if err := s.standby.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.points(50, 51)
	testkit.Eventually(t, failoverPatience, "the primary of before is refused", func() bool {
		return strings.Contains(s.status().Problem, "is a primary of before: its timeline is 1, and timeline 2 has been seen")
	})
	// A person decides.
	if err := bus.ForgetDatabase(t.Context(), s.js); err != nil {
		t.Fatal(err)
	}
	s.has(s.primary, 51, 1)
}

// Both are primaries, and the old one still answers: the projector leaves it.
func TestLeavesAPrimaryThatIsNoneAnyMore(t *testing.T) {
	s := newServers(t)
	s.start()
	s.has(s.standby, 10, s.points(0, 10))
	if err := s.standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, failoverPatience, "it projects to the new primary", func() bool {
		st := s.status()
		return st.Projecting && st.Standbys != nil && st.Standbys.Timeline == 2
	})
	s.has(s.standby, 20, s.points(10, 20))
	s.has(s.primary, 10, 1)
}

// While a standby is unreachable the stream keeps what it lacks, however crowded it is, until
// writes are refused; when it is back, everything continues.
func TestTrimsNotPastAStandby(t *testing.T) {
	s := newServers(t)
	s.start(func(c *Config) { c.Replay = ReplayWindow{Age: time.Hour} })
	s.has(s.standby, 1, s.publish(line("first", `{}`)))
	if err := s.standby.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	large := `{"text":"` + strings.Repeat("x", 200<<10) + `"}`
	n, last := 0, event.Position(0)
	testkit.Eventually(t, fillPatience, "the stream is full", func() bool {
		p, err := s.tryPublish(line(fmt.Sprintf("a%d", n), large), line(fmt.Sprintf("b%d", n), large))
		if err == nil {
			n, last = n+1, p
		}
		return errors.Is(err, bus.ErrFull)
	})
	testkit.Eventually(t, failoverPatience, "it says for whom the stream is kept", func() bool {
		st := s.status()
		return st.Standbys != nil && st.Standbys.Held > 0 && strings.Contains(st.Standbys.Why, "standby second is unreachable")
	})
	stream, err := s.js.Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if first := stream.CachedInfo().State.FirstSeq; first > 2 {
		t.Fatalf("trimmed below %d, and the standby has nothing behind 1", first)
	}
	if err := s.standby.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, failoverPatience, "room in the stream", func() bool {
		_, err := s.tryPublish(line("room", `{}`))
		return err == nil && s.status().Standbys.Held == 0
	})
	s.has(s.standby, 2*n+2, last)
}

// A user who may not see how far standbys are is told what it needs, and nothing is
// trimmed meanwhile.
func TestWhoMayNotSeeStandbys(t *testing.T) {
	s := newServers(t)
	conn, err := pgx.Connect(t.Context(), s.primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `create role watcher login; grant select on checkpoint to watcher`); err != nil {
		t.Fatal(err)
	}
	w := &standbys{log: testkit.Log(t), source: source{url: strings.Replace(s.primary.URL(), "cairn@", "watcher@", 1), seen: &hosts.Seen{}}, known: map[string]standby{}}
	defer w.end()
	lineage, err := hosts.Of(t.Context(), conn.PgConn())
	if err != nil || lineage.Timeline != 1 {
		t.Fatal(lineage, err)
	}
	w.lookAt(t.Context(), lineage)
	if reach, why := w.reached(); reach != 0 || !strings.Contains(why, "GRANT pg_read_all_stats") {
		t.Errorf("up to %d because %q", reach, why)
	}
	if theirs, err := hosts.Of(t.Context(), w.conn.PgConn()); err != nil || theirs != lineage {
		t.Errorf("the user sees the lineage %v, %v", theirs, err)
	}
	if _, err := conn.Exec(t.Context(), `grant pg_read_all_stats to watcher`); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, failoverPatience, "the standby is seen", func() bool {
		w.lookAt(t.Context(), lineage)
		_, why := w.reached()
		return strings.Contains(why, "standby second has the projection")
	})
}

func TestMarks(t *testing.T) {
	s := &standbys{log: testkit.Log(t), known: map[string]standby{}}
	for i := range int64(10 * maxWALPoints) {
		s.addWALPoint(walPoint{i + 1, 100 * (i + 1)})
		s.addWALPoint(walPoint{i + 1, 100*(i+1) + 7}) // nothing new
	}
	if n := len(s.walPoints); n > maxWALPoints || s.walPoints[n-1].sequence != 10*maxWALPoints {
		t.Errorf("%d WAL points, the last %v", n, s.walPoints[n-1])
	}
	for i := range int64(10 * maxWALPoints) {
		if got := s.at(100*(i+1) + 50); got > uint64(i+1) { //nolint:gosec // small
			t.Fatalf("with the log up to WAL point %d it has the projection up to %d", i+1, got)
		}
	}
	if got := s.at(99); got != 0 {
		t.Errorf("before all WAL points: %d", got)
	}
}

func TestStandbysThatCount(t *testing.T) {
	at := func(name string, flushed int64, slot, here bool) standby { return standby{name, flushed, slot, here} }
	tests := []struct {
		name  string
		want  TrimStandbys
		looks [][]standby
		reach uint64
		why   string
	}{
		{"nobody looked", TrimStandbys{}, nil, 0, "not looked at"},
		{"none", TrimStandbys{}, [][]standby{{}}, 1<<64 - 1, ""},
		{"none, and one is asked for", TrimStandbys{Least: 1}, [][]standby{{}}, 0, "asks for 1"},
		{"none has a say", TrimStandbys{Off: true}, [][]standby{{at("a", 100, true, true)}}, 1<<64 - 1, ""},
		{"the slowest", TrimStandbys{}, [][]standby{{at("a", 300, true, true), at("b", 200, true, true)}}, 2, "standby b has"},
		{"one that has just come", TrimStandbys{}, [][]standby{{at("a", 300, true, true), at("b", 0, true, true)}}, 0, "standby b has"},
		{"one that is away, with a slot", TrimStandbys{}, [][]standby{{at("a", 300, true, true), at("b", 100, true, false)}}, 1, "standby b is unreachable"},
		{"one whose slot was dropped", TrimStandbys{}, [][]standby{{at("a", 300, true, true), at("b", 100, true, true)}, {at("a", 300, true, true)}}, 3, "standby a has"},
		{"one that is away, without a slot", TrimStandbys{}, [][]standby{{at("a", 300, true, true), at("b", 100, false, true)}, {at("a", 300, true, true)}}, 1, "standby b is unreachable"},
		{"it is back", TrimStandbys{}, [][]standby{{at("b", 100, false, true)}, {}, {at("b", 300, false, true)}}, 3, "standby b has"},
		{"two of one name", TrimStandbys{}, [][]standby{{at("w", 100, false, true), at("w", 300, false, true)}}, 1, "standby w has"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &standbys{want: tt.want, log: testkit.Log(t), known: map[string]standby{}, walPoints: []walPoint{{1, 100}, {2, 200}, {3, 300}}}
			for _, found := range tt.looks {
				s.take(found)
			}
			reach, why := s.reached()
			if reach != tt.reach || !strings.Contains(why, tt.why) {
				t.Errorf("up to %d because %q; want %d because %q", reach, why, tt.reach, tt.why)
			}
		})
	}
}

func TestParseTrimStandbys(t *testing.T) {
	for text, want := range map[string]TrimStandbys{"": {}, "auto": {}, "off": {Off: true}, "2": {Least: 2}} {
		if got, err := ParseTrimStandbys(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "-1", "17", "on", "2 "} {
		if _, err := ParseTrimStandbys(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	var seen hosts.Seen
	seenOf("7/3", &seen)
	if seenOf("", &seen); seen.Newest() != (hosts.Lineage{}) {
		t.Error("what nobody has noted any more is still refused")
	}
}
