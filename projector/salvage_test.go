package projector

import (
	"context"
	"testing"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/testkit"
)

func (b *bench) salvage(ctx context.Context) (Salvaged, error) {
	return Salvage(ctx, b.bus.Endpoint(bus.UserAdmin), b.url, bus.MinMaxBytes, 0, testkit.Log(b.t))
}

func TestSalvage(t *testing.T) {
	tests := []struct {
		name      string
		damage    func(t *testing.T, b *bench)
		published uint64
		ids       int // at the end: a, b, c are there before
	}{
		{"stream gone", func(t *testing.T, b *bench) {
			if err := b.js.DeleteStream(t.Context(), bus.Stream); err != nil {
				t.Fatal(err)
			}
		}, 0, 3},
		{"stream recreated, with writes in it", func(t *testing.T, b *bench) {
			if err := b.js.DeleteStream(t.Context(), bus.Stream); err != nil {
				t.Fatal(err)
			}
			if _, err := bus.CreateStream(t.Context(), b.js, 0, bus.MinMaxBytes); err != nil {
				t.Fatal(err)
			}
			b.publish(line("x", `{}`))
			b.publish(line("a", `{}`)) // a retry
		}, 2, 4},
		{"a message in the middle lost", func(t *testing.T, b *bench) {
			b.publish(line("lost", `{}`))
			b.publish(line("x", `{}`), line("y", `{}`))
			s, err := b.js.Stream(t.Context(), bus.Stream)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteMsg(t.Context(), 4); err != nil {
				t.Fatal(err)
			}
		}, 4, 5},
		{"sequences used again", func(t *testing.T, b *bench) {
			b.exec("update checkpoint set message_id = 'another'")
			b.publish(line("x", `{}`))
		}, 4, 4},
	}
	for _, tt := range tests {
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
			tt.damage(t, b)
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
	s := &salvage{js: admin, log: testkit.Log(t), done: &Salvaged{}, above: 1}
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
