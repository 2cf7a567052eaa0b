package testrig

import (
	"fmt"
	"slices"
	"sync"
)

// Changes knows what writers did to points that change. Each point has one writer,
// which sends one change after the other; so its last acknowledged change says
// what it must be, and those that may have been stored though nobody said so say
// what else it may be.
type Changes struct {
	mu     sync.Mutex
	points map[string]*Changing // by id
	done   int                  // changes that were acknowledged
}

// NewChanges knows of no point.
func NewChanges() *Changes { return &Changes{points: map[string]*Changing{}} }

// A Changing is a point that changes.
type Changing struct {
	ID string
	// Created says that it was once acknowledged to be there, so that it can be
	// deleted but not missing.
	Created  bool
	versions []*Version
}

// A Version is what a change makes of a point.
type Version struct {
	Point *Point // nil: deleted
	// The change is not before After and not behind Position, which was
	// acknowledged. Both are 0 until then.
	Position, After int64
	// Late says that an attempt had no answer: it may be stored at any time.
	Late  bool
	ended bool
}

// A Found is what there is of a point.
type Found struct {
	Deleted, Missing bool
	Got              *Got  // nil: it is deleted or missing
	Position         int64 // where it was created; 0: not told
	Revision         int64 // 0: not told
}

// Begin notes a change that is sent from now on; p is nil for a deletion.
func (c *Changes) Begin(id string, p *Point) *Version {
	c.mu.Lock()
	defer c.mu.Unlock()
	point := c.points[id]
	if point == nil {
		point = &Changing{ID: id}
		c.points[id] = point
	}
	v := &Version{Point: p}
	point.versions = append(point.versions, v)
	return v
}

// End notes that no more attempts are made. position is 0 where none was
// acknowledged as done.
func (c *Changes) End(id string, v *Version, position, after int64, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v.Position, v.After, v.Late, v.ended = position, after, late, true
	point := c.points[id]
	switch {
	case position > 0:
		c.done++
		point.Created = point.Created || v.Point != nil
	case !late: // nothing came of it
		point.versions = slices.DeleteFunc(point.versions, func(other *Version) bool { return other == v })
	}
}

// Dropped notes that retention dropped the point after all that is not after a
// position was applied: only changes from behind it say what it is.
func (c *Changes) Dropped(id string, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	point := c.points[id]
	if point == nil {
		return
	}
	point.Created = false
	point.versions = slices.DeleteFunc(point.versions, func(v *Version) bool {
		switch {
		case v.Position > at && v.After > at:
			point.Created = point.Created || v.Point != nil
			return false
		case v.Position > at || v.Late: // it is there or not
			v.Position, v.After, v.Late = 0, 0, true
			return false
		}
		return true
	})
}

// Certain is what the point is, where that is certain: its last version, which is
// nil where it never was.
func (c *Changes) Certain(id string) (v *Version, certain bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	point := c.points[id]
	if point == nil {
		return nil, true
	}
	for _, v := range point.versions {
		if v.Late || !v.ended {
			return nil, false
		}
	}
	if len(point.versions) == 0 {
		return nil, true
	}
	return point.versions[len(point.versions)-1], true
}

// First is the first content that the point was given, nil where it never had any.
func (c *Changes) First(id string) *Point {
	c.mu.Lock()
	defer c.mu.Unlock()
	if point := c.points[id]; point != nil {
		for _, v := range point.versions {
			if v.Point != nil {
				return v.Point
			}
		}
	}
	return nil
}

// IDs are those of all points that changes were sent to.
func (c *Changes) IDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]string, 0, len(c.points))
	for id := range c.points {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Done is how many changes were acknowledged.
func (c *Changes) Done() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// Settled is where a reader begins: up to which change of the point all is settled
// by an acknowledgement, and by which position that must have been seen.
func (c *Changes) Settled(id string) (changes int, position int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	point := c.points[id]
	if point == nil {
		return 0, 0
	}
	for i, v := range point.versions {
		if v.Position > 0 {
			changes, position = i+1, max(position, v.Position)
		}
	}
	return changes, position
}

// Wrong says what is wrong with what was found of a point, by who began to look at
// that Mark; "" for nothing.
func (c *Changes) Wrong(id string, f Found, changes int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	point := c.points[id]
	if point == nil {
		return "nobody sent " + id
	}
	var last, other *Version // the last that was acknowledged, and the last before it that differs
	for i, v := range point.versions {
		if v.Position == 0 || i >= changes {
			continue
		}
		if last != nil && last.Point != v.Point {
			other = last
		}
		last = v
	}
	switch {
	case last == nil && f.Missing:
		return ""
	case last != nil && point.is(last, f):
		if f.Revision != 0 && other != nil && f.Revision <= other.After {
			return fmt.Sprintf("%s is as acknowledged at %d, but at revision %d, before another at %d", id, last.Position, f.Revision, other.After)
		}
		return ""
	}
	for i, v := range point.versions {
		open := v.Late || !v.ended || i >= changes
		if open && point.is(v, f) && (last == nil || f.Revision == 0 || f.Revision > last.After) {
			return ""
		}
	}
	return point.verdict(last, f)
}

// is reports whether the version is what was found.
func (p *Changing) is(v *Version, f Found) bool {
	if v.Point == nil {
		return f.Deleted || f.Missing && !p.Created
	}
	return f.Got != nil && v.Point.Same(f.Got) == ""
}

func (p *Changing) verdict(last *Version, f Found) string {
	what := "missing"
	switch {
	case f.Deleted:
		what = "deleted"
	case f.Got != nil:
		what = fmt.Sprintf("%q", f.Got.Name())
	}
	text := fmt.Sprintf("%s is %s at revision %d", p.ID, what, f.Revision)
	switch {
	case last == nil:
		return "UNKNOWN: " + text + ", which nobody sent"
	case last.Point == nil && f.Got != nil:
		return fmt.Sprintf("RESURRECTED: %s; it was deleted at %d", text, last.Position)
	case last.Point != nil && f.Got == nil:
		return fmt.Sprintf("LOST: %s; it was %q at %d", text, last.Point.Name, last.Position)
	case last.Point == nil:
		return fmt.Sprintf("LOST: %s; it was deleted at %d", text, last.Position)
	}
	return fmt.Sprintf("STALE: %s; it was %q at %d", text, last.Point.Name, last.Position)
}
