package projector

import (
	"net/http"
	"strings"
	"testing"

	"cairn/bus"
	"cairn/internal/testkit"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func (b *bench) stream() jetstream.Stream {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), bus.Stream)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) deleteStream() {
	b.t.Helper()
	if err := b.js.DeleteStream(b.t.Context(), bus.Stream); err != nil {
		b.t.Fatal(err)
	}
}

// recreateStream puts an empty stream in the place of the one there is.
func (b *bench) recreateStream() {
	b.t.Helper()
	b.deleteStream()
	if _, err := bus.CreateStream(b.t.Context(), b.js, 0, bus.MinMaxBytes); err != nil {
		b.t.Fatal(err)
	}
}

// loseMessage takes a message out of the stream.
func (b *bench) loseMessage(sequence uint64) {
	b.t.Helper()
	if err := b.stream().DeleteMsg(b.t.Context(), sequence); err != nil {
		b.t.Fatal(err)
	}
}

// mismatches are done to a stream of three messages, all of them applied.
var mismatches = []struct {
	name, says string
	damage     func(b *bench)
}{
	{"stream gone", "is gone", (*bench).deleteStream},
	{"stream of somebody else", "was created at", (*bench).recreateStream},
	{"database too old", "begins at sequence 3", func(b *bench) {
		b.purgeBelow(3)
		b.exec("update checkpoint set sequence = 1")
	}},
	{"stream too short", "ends at sequence 3", func(b *bench) { b.exec("update checkpoint set sequence = 9") }},
	{"another message", "is not the one", func(b *bench) { b.exec("update checkpoint set message_id = 'other'") }},
	{"checkpoint's message lost", "has lost message 3", func(b *bench) { b.loseMessage(3) }},
	{"a message in the middle lost", "missing from the middle", func(b *bench) {
		b.publish(line("d", `{}`))
		b.publish(line("e", `{}`))
		b.loseMessage(4)
	}},
}

func TestStopsWhereStreamAndDatabaseDoNotMatch(t *testing.T) {
	for _, tt := range mismatches {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			stop := b.start()
			for _, id := range []string{"a", "b", "c"} {
				b.waitFor(b.publish(line(id, `{}`)))
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			tt.damage(b)
			b.start()
			testkit.Eventually(t, patience, "the projector to say …"+tt.says+"…", func() bool {
				problem := b.status().Problem
				return strings.Contains(problem, tt.says) && strings.Contains(problem, "cairn salvage")
			})
			if n := b.count("select count(*) from points"); n != 3 {
				t.Errorf("%d points, want the 3 of before", n)
			}
		})
	}
}

// What a newer version wrote is neither parked nor passed over: all before it is
// applied, and the projection waits for an upgrade.
func TestStopsAtWhatIsNewer(t *testing.T) {
	newer := func(change func(h nats.Header), lines ...string) func(t *testing.T, b *bench) {
		return func(t *testing.T, b *bench) {
			m := &nats.Msg{Subject: bus.Subject, Header: nats.Header{}, Data: []byte(strings.Join(lines, "\n") + "\n")}
			m.Header.Set("Cairn-Format", bus.Format)
			change(m.Header)
			if _, err := b.dial(bus.UserIngest).PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	none := func(nats.Header) {}
	tests := []struct {
		name, says string
		publish    func(t *testing.T, b *bench)
	}{
		{"format", `format "2"`, newer(func(h nats.Header) { h.Set("Cairn-Format", "2") }, `{"new":"thing"}`)},
		{"type of event", `"moved"`, newer(none, line("x", `{}`), strings.Replace(line("y", `{}`), "created", "moved", 1))},
		{"type of event that has no point", `"merged"`, newer(none, `{"id":"0193","type":"merged","into":7}`)},
		{"condition", `"unless"`, newer(none, strings.Replace(line("y", `{}`), `"type":"created"`, `"type":"created","if":"unless"`, 1))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			stop := b.start()
			b.waitFor(b.publish(line("a", `{}`)))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			before := b.publish(line("b", `{}`), line("c", `{}`))
			tt.publish(t, b)
			b.publish(line("d", `{}`))
			b.start()
			testkit.Eventually(t, patience, "the projector to say …"+tt.says+"…", func() bool {
				problem := b.status().Problem
				return strings.Contains(problem, tt.says) && strings.Contains(problem, "Upgrade")
			})
			b.waitFor(before)
			resp, err := http.Get(b.http + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if points, parked := b.count("select count(*) from points"), b.count("select count(*) from parked"); points != 3 || parked != 0 || resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%d points, want 3; %d parked, want 0; /readyz %d", points, parked, resp.StatusCode)
			}
		})
	}
}

func TestStopsAtANewerSchema(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.exec("update cairn_schema_version set version = version + 1")
	b.start()
	testkit.Eventually(t, patience, "the projector to ask for an upgrade", func() bool {
		return strings.Contains(b.status().Problem, "Upgrade this projector")
	})
}
