package projector

import (
	"context"
	"testing"
	"time"

	"cairn/internal/testkit"
)

// Maintenance and the writer may both find that the head is due, with nothing applied in
// between: one of them begins the next segment, and the other sees that it is there.
func TestTwoRotations(t *testing.T) {
	s := newStore(t)
	m := s.maintenance(t.Context(), 0)
	s.create(100, time.Now())
	conn, err := connect(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `update checkpoint set stream_created = now()`); err != nil {
		t.Fatal(err)
	}
	at, err := readCheckpoint(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{conn: conn, at: at, log: testkit.Log(t), patience: fencePatience, catalogue: &catalogue{}, inPlace: map[int]int{}}
	head := func() (id int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), `select id from segments where state = 'head'`).Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	before := head()
	if worked, err := m.step(t.Context()); err != nil || !worked {
		t.Fatal(worked, err)
	}
	between := head()
	if err := w.rotate(t.Context()); err != nil {
		t.Errorf("what maintenance had done was taken for a mismatch: %v", err)
	}
	if after := head(); before == between || after != between {
		t.Errorf("the heads were %d, %d and %d", before, between, after)
	}
	if w.catalogue != nil || conn.PgConn().TxStatus() != 'I' {
		t.Errorf("the writer goes on with an old catalogue, or in a transaction: %v, %c", w.catalogue, conn.PgConn().TxStatus())
	}
	s.create(10, time.Now())
	s.settle(m)
	s.check()
}
