package projector

import (
	"fmt"
	"testing"

	"cairn/internal/testkit"
)

// Where somebody reads the view while the head is full, the view has the new segment as
// soon as he is done, also during a merge, which has the lock of the segments for minutes.
func TestViewFollowsBesideAMerge(t *testing.T) {
	const headRows = 100
	b := newBench(t)
	merging, err := b.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer merging.Release()
	if err := lockSegments(t.Context(), merging.Conn(), segmentsLock); err != nil {
		t.Fatal(err)
	}
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select count(*) from points`); err != nil {
		t.Fatal(err)
	}
	b.start(func(c *Config) { c.sizes = smallSizes(headRows) })
	lines := make([]string, headRows)
	for i := range lines {
		lines[i] = line(fmt.Sprint("full", i), `{}`)
	}
	b.waitFor(b.publish(lines...))
	b.waitFor(b.publish(line("next", `{}`)))
	testkit.Eventually(t, patience, "the full segment to be sealed", func() bool {
		return b.count("select count(*) from segments where rows is not null") == 1
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the view to have the point of the new head", func() bool {
		return b.count("select count(*) from points") == headRows+1
	})
}
