package query

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"cairn/event"
	"cairn/query/plan"
	"cairn/query/tiles"
)

// fewPoints: where the counts say that a tile has no more, it is made of rows, which
// have names and ids.
const fewPoints = tiles.MaxPoints

// countsAge is how old the counts of a sealed segment in which something was changed
// become at least before it is counted again: until then a cluster may be off by those
// changes. New points are in the head, whose counts are always those of now.
const countsAge = 10 * time.Second

// A counter keeps, for each segment, how many points are in each cell of a grid over
// the map, for the tiles that show so much of the world that nothing else is told.
type counter struct {
	reader *plan.Reader
	ctx    context.Context //nolint:containedctx // of what counts in the background
	loads  singleflight.Group

	mu     sync.Mutex
	cached map[int]counted // by segment
	again  int             // how often all was dropped
}

// counted are a segment's counts of what was there at a position.
type counted struct {
	*tiles.Counts
	low, high event.Position // the segment's
	// What was created up to added is counted, and what was changed up to upTo is as it
	// was then.
	added, upTo event.Position
	at          time.Time
}

func newCounter(ctx context.Context, r *plan.Reader) *counter {
	return &counter{reader: r, ctx: ctx, cached: map[int]counted{}}
}

func (c *counter) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.cached)
	c.again++
}

// add adds clusters of all points in the tile. done is false where there are so few
// that rows tell more.
func (c *counter) add(ctx context.Context, layer *tiles.Layer, at tiles.Tile) (sequence uint64, done bool, err error) {
	const tries = 5 // segments may be merged meanwhile
	for range tries {
		var missing []plan.Part
		err = c.reader.Snapshot(ctx, 0, func(s *plan.Snapshot) (err error) {
			sequence = s.Sequence
			c.prune(s.Parts(nil))
			parts := s.Parts(inTile(at, nil))
			if err := c.take(ctx, s, parts); err != nil {
				return err
			}
			var have []counted
			if have, missing = c.find(parts); len(missing) > 0 {
				return nil
			}
			for i := range have {
				if have[i], err = c.extend(ctx, s, parts[i], have[i]); err != nil {
					return err
				}
			}
			done = addCounts(layer, at, have)
			return nil
		})
		if err != nil || len(missing) == 0 {
			return sequence, done, err
		}
		for _, p := range missing {
			if err := c.load(ctx, p); err != nil {
				return 0, false, err
			}
		}
	}
	return 0, false, nil
}

func addCounts(layer *tiles.Layer, at tiles.Tile, all []counted) bool {
	var sum uint64
	for _, k := range all {
		sum += k.Within(at)
	}
	if sum <= fewPoints {
		return false
	}
	for _, k := range all {
		layer.AddCounts(k.Counts)
	}
	return true
}

// take takes over what the projector has counted, of those parts of which nothing is
// kept.
func (c *counter) take(ctx context.Context, s *plan.Snapshot, parts []plan.Part) error {
	for _, p := range parts {
		c.mu.Lock()
		_, known := c.cached[p.ID]
		c.mu.Unlock()
		if known || !p.Fixed {
			continue
		}
		counts := &tiles.Counts{}
		revision, coarse, ok, err := s.CellCounts(ctx, p, counts.AddCell)
		if err != nil {
			return err
		}
		if ok {
			counts.SetCoarse(coarse)
			counts.Sort()
			c.put(p.ID, counted{counts, p.Low, p.High, p.High - 1, max(revision, p.Low), time.Now()})
		}
	}
	return nil
}

// find looks for what is kept of the parts. What is not, and is not the sum of what
// is, must be loaded.
func (c *counter) find(parts []plan.Part) (have []counted, missing []plan.Part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range parts {
		k, ok := c.cached[p.ID]
		if !ok {
			if k, ok = c.merged(p); ok {
				c.cached[p.ID] = k
			}
		}
		if !ok {
			missing = append(missing, p)
			continue
		}
		k.low, k.high = p.Low, p.High // the head's end is known when it is sealed
		c.cached[p.ID] = k
		if p.Fixed && p.Revision > k.upTo && time.Since(k.at) > countsAge {
			go func() { _ = c.load(c.ctx, p) }() // meanwhile what is kept will do
		}
		have = append(have, k)
	}
	return have, missing
}

// prune drops segments that are gone, unless they may be parts of one that is not
// known yet.
func (c *counter) prune(alive []plan.Part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, k := range c.cached {
		needed := func(p plan.Part) bool {
			_, known := c.cached[p.ID]
			return p.ID == id || !known && p.Low <= k.low && k.high <= p.High
		}
		if !slices.ContainsFunc(alive, needed) {
			delete(c.cached, id)
		}
	}
}

// merged is the sum of the counts that cover the part's range: it was merged of those
// segments, which are dropped.
func (c *counter) merged(p plan.Part) (sum counted, ok bool) {
	var ids []int
	for id, k := range c.cached {
		if k.low >= p.Low && k.high <= p.High {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b int) int { return cmp.Compare(c.cached[a].low, c.cached[b].low) })
	sum = counted{low: p.Low, high: p.High, added: p.High - 1, upTo: event.Position(1<<63 - 1), at: time.Now()}
	var list []*tiles.Counts
	end := p.Low
	for _, id := range ids {
		k := c.cached[id]
		if k.low != end || k.added < k.high-1 {
			return counted{}, false
		}
		end, sum.upTo = k.high, min(sum.upTo, k.upTo)
		if k.at.Before(sum.at) {
			sum.at = k.at
		}
		list = append(list, k.Counts)
	}
	if end != p.High {
		return counted{}, false
	}
	for _, id := range ids {
		delete(c.cached, id)
	}
	sum.Counts = tiles.Sum(list...)
	return sum, true
}

// extend adds what was created since a segment was counted: most often, in the head.
// What was changed in the head makes it be recounted.
func (c *counter) extend(ctx context.Context, s *plan.Snapshot, p plan.Part, k counted) (counted, error) {
	now := event.EndOf(s.Sequence)
	if k.added >= min(now, p.High-1) {
		return k, nil
	}
	after := k.added
	if !p.Fixed || p.Revision > k.upTo {
		changed, err := s.Changed(ctx, p, k.upTo, k.added)
		if err != nil {
			return k, err
		}
		if changed {
			after = 0
		}
	}
	more, err := countIn(ctx, s, p, after)
	if err != nil {
		return k, err
	}
	if after > 0 {
		more = tiles.Sum(k.Counts, more)
	}
	k = counted{more, p.Low, p.High, now, now, time.Now()}
	c.put(p.ID, k)
	return k, nil
}

func countIn(ctx context.Context, s *plan.Snapshot, p plan.Part, after event.Position) (*tiles.Counts, error) {
	counts := &tiles.Counts{}
	if err := s.Cells(ctx, p, after, counts.AddCell); err != nil {
		return nil, err
	}
	counts.Sort()
	counts.Coarsen()
	return counts, nil
}

// put keeps counts, unless newer ones are there.
func (c *counter) put(id int, k counted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.cached[id]; !ok || old.added <= k.added {
		c.cached[id] = k
	}
}

// load counts a whole segment. Those who want the same one wait together.
func (c *counter) load(ctx context.Context, p plan.Part) error {
	c.mu.Lock()
	again := c.again
	c.mu.Unlock()
	_, err, _ := c.loads.Do(fmt.Sprint(p.ID, again), func() (any, error) {
		return nil, c.reader.Snapshot(ctx, math.Inf(1), func(s *plan.Snapshot) error {
			parts := s.Parts(nil)
			i := slices.IndexFunc(parts, func(other plan.Part) bool { return other.ID == p.ID })
			if i < 0 {
				return nil // it is gone; whoever wanted it looks again
			}
			counts, err := countIn(ctx, s, parts[i], 0)
			if err != nil {
				return err
			}
			now := event.EndOf(s.Sequence)
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.again == again {
				c.cached[p.ID] = counted{counts, parts[i].Low, parts[i].High, now, now, time.Now()}
			}
			return nil
		})
	})
	return err
}
