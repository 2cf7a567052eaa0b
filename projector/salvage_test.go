package projector

import (
	"context"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/testkit"
)

func (b *bench) salvage(ctx context.Context) (Salvaged, error) {
	return Salvage(ctx, b.bus.Endpoint(bus.UserAdmin), b.url, bus.MinMaxBytes, 0, testkit.Log(b.t))
}

// salvages are done to a stream of three messages, all of them applied, of a, b and c.
var salvages = []struct {
	name      string
	damage    func(b *bench)
	published uint64
	ids       int // at the end: a, b, c are there before
}{
	{"stream gone", (*bench).deleteStream, 0, 3},
	{"stream recreated, with writes in it", func(b *bench) {
		b.recreateStream()
		b.publish(line("x", `{}`))
		b.publish(line("a", `{}`)) // a retry
	}, 2, 4},
	{"a message in the middle lost", func(b *bench) {
		b.publish(line("lost", `{}`))
		b.publish(line("x", `{}`), line("y", `{}`))
		b.loseMessage(4)
	}, 1, 5},
	{"sequences used again", func(b *bench) {
		b.goBack(2)
		b.publish(line("x", `{}`))
	}, 1, 4},
}

func TestSalvage(t *testing.T) {
	for _, tt := range salvages {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			stop := b.start()
			var before event.Position
			for _, id := range []string{"a", "b", "c"} {
				before = b.publish(line(id, `{}`))
				b.waitFor(before)
			}
			if _, err := b.salvage(t.Context()); err == nil {
				t.Error("it salvaged what was whole")
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			tt.damage(b)
			b.start() // it finds the mismatch and waits
			done, err := b.salvage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if done.Published != tt.published || done.First <= before.Sequence() {
				t.Errorf("salvaged %+v; want %d published, from above %d", done, tt.published, before.Sequence())
			}
			p := b.publish(line("after", `{}`))
			b.waitFor(p)
			if n := b.count("select count(*) from points"); n != tt.ids+1 {
				t.Errorf("%d points, want %d", n, tt.ids+1)
			}
			if n := b.count("select count(*) from parked"); n != 0 {
				t.Errorf("%d parked", n)
			}
			if _, err := b.js.Stream(t.Context(), bus.SalvageStream); err == nil {
				t.Error("the copy stayed")
			}
		})
	}
}

func TestSalvageGoesOnWhereItWasEnded(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.exec("update checkpoint set message_id = 'another'")
	b.publish(line("b", `{}`))
	// As a salvage leaves it that was ended after each of its steps.
	admin := b.dial(bus.UserAdmin)
	s := &salvage{js: admin, conn: b.conn(), log: testkit.Log(t), done: &Salvaged{}, above: 1}
	if err := s.copyOld(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.salvage(t.Context()); err != nil { // the old one is deleted
		t.Fatal(err)
	}
	// A second copy of what is there must change nothing: the new stream
	// exists, and so does the copy.
	if _, err := bus.CreateSalvageStream(t.Context(), admin, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Publish(t.Context(), bus.SalvageSubject, []byte(line("b", `{}`)+"\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.salvage(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.waitFor(b.publish(line("after", `{}`)))
	if points, parked := b.count("select count(*) from points"), b.count("select count(*) from parked"); points != 3 || parked != 0 {
		t.Errorf("%d points and %d parked, want a, b, after", points, parked)
	}
	if _, err := b.js.Stream(t.Context(), bus.SalvageStream); err == nil {
		t.Error("the copy stayed")
	}
}

// Changes that were acknowledged and not yet applied keep their meaning: a condition
// that names the revision of a change which is salvaged too names its new one, one
// that names a revision which the database has stays as it is, and what the database
// has applied is not applied a second time, over what came after.
func TestSalvagedChangesKeepTheirConditions(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	change := func(kind, value, id string, need event.Condition) string {
		e := event.Event{ID: event.Key(id), Type: kind, Received: time.Now().UTC(), If: need}
		if kind != event.Deleted {
			e.Point = pointOf(value)
		}
		return lineOf(e)
	}
	var there event.Position
	for range 3 { // the last of them is lost in the middle of the stream below
		there = b.publish(change(event.Created, "1", "a", event.Condition{}), change(event.Created, "1", "b", event.Condition{}),
			change(event.Created, "1", "c", event.Condition{}))
		b.waitFor(there)
	}
	created := event.At(there.Sequence()-2, 0)
	put := b.publish(change(event.Put, "2", "b", event.Condition{}))
	b.waitFor(put)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	waiting := b.publish(change(event.Put, "3", "a", event.IfRevision(created)), change(event.Put, "3", "c", event.Condition{}))
	b.publish(change(event.Put, "lost", "d", event.Condition{}))
	b.publish(change(event.Put, "4", "a", event.IfRevision(waiting)), change(event.Put, "5", "b", event.IfRevision(put)),
		change(event.Deleted, "", "c", event.IfRevision(waiting+1)), change(event.Put, "never", "a", event.IfRevision(created)))
	b.loseMessage(waiting.Sequence() + 1)
	b.start()
	done, err := b.salvage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if done.Applied != put.Sequence() || done.Published != 2 || done.Missing != 1 {
		t.Errorf("salvaged %+v, want %d applied, 2 published and 1 missing", done, put.Sequence())
	}
	b.waitFor(b.publish(change(event.Put, "after", "e", event.Condition{})))
	for id, want := range map[string]string{"a": "4", "b": "5", "c": "", "e": "after"} {
		var got string
		err := b.pool.QueryRow(t.Context(), `select coalesce((select properties ->> 'v' from points where id = $1), '')`, event.Key(id)).Scan(&got)
		if err != nil || got != want {
			t.Errorf("%s is %q, want %q; %v", id, got, want, err)
		}
	}
}

// A salvage that was ended while it published continues after what is there, and
// writers wait until all is: what they send is newer.
func TestSalvageGoesOnInTheMiddle(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.exec("update checkpoint set message_id = 'another'")
	for _, v := range []string{"1", "2", "3"} {
		b.publish(lineOf(event.Event{ID: event.Key("b"), Type: event.Put, Received: time.Now().UTC(), Point: pointOf(v)}))
	}
	admin := b.dial(bus.UserAdmin)
	s := &salvage{js: admin, conn: b.conn(), log: testkit.Log(t), done: &Salvaged{}, above: 4}
	if err := s.copyOld(t.Context()); err != nil {
		t.Fatal(err)
	}
	stream, err := s.newStream(t.Context(), bus.MinMaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	subject, closed := bus.SalvagedTo(stream.CachedInfo())
	if !closed {
		t.Fatal("the new stream is open before all is in it")
	}
	copied, err := admin.Stream(t.Context(), bus.SalvageStream)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= 3; sequence++ { // of 4
		m, err := copied.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.publish(t.Context(), subject, m.Header, m.Data); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.tryPublish(line("x", `{}`)); err == nil {
		t.Error("a write was acknowledged before what is older")
	}
	done, err := b.salvage(t.Context())
	if err != nil || done.Published != 1 {
		t.Fatalf("%+v, %v, want 1 published", done, err)
	}
	b.start()
	b.waitFor(b.publish(line("after", `{}`)))
	if n := b.count("select count(*) from points where properties ->> 'v' = '3' or properties = '{}'"); n != 3 {
		t.Errorf("%d points are as they should be, of a, b, after", n)
	}
}

// What the database has applied is not replaced by what is older, though the stream
// has lost the newer change.
func TestSalvageAppliesNothingTwice(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	var last event.Position
	for _, v := range []string{"1", "2"} {
		last = b.publish(lineOf(event.Event{ID: event.Key("a"), Type: event.Put, Received: time.Now().UTC(), Point: pointOf(v)}))
		b.waitFor(last)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.loseMessage(last.Sequence())
	done, err := Salvage(t.Context(), b.bus.Endpoint(bus.UserAdmin), b.url, bus.MinMaxBytes, last.Sequence(), testkit.Log(t))
	if err != nil || done.Published != 0 {
		t.Errorf("%+v, %v, want none published", done, err)
	}
	b.start()
	b.waitFor(b.publish(line("after", `{}`)))
	if n := b.count("select count(*) from points where properties ->> 'v' = '2'"); n != 1 {
		t.Error("what was older came back")
	}
}
