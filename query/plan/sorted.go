package plan

import (
	"context"
	"time"

	"cairn/query/filter"
)

func timestamp(micros int64) time.Time { return time.UnixMicro(micros + filter.PostgresEpoch).UTC() }

// byTime merges what all segments have, in the order of times. Where little matches
// it is gathered; else each segment's index over times gives it in order. The head,
// which has none, is read whole ([statement.newestOf]): it is small ([cairn/projector]
// seals it), and an index more is a cost to every write.
func (p *page) byTime(ctx context.Context) error {
	return p.run(ctx, "page_by_time", p.catalogue.pageByTime(&p.q, p.extent, p.left))
}

func (c *catalogue) pageByTime(q *Query, x filter.Extent, left int) *statement {
	if k := q.After; k != nil && q.Ascending {
		x.From = max(x.From, k.Time)
	} else if k != nil {
		x.To = min(x.To, k.Time)
	}
	var list []step
	for _, s := range c.reaching(x.Low, x.High, false) {
		g := goal{extent: &x, need: float64(left), ascending: q.Ascending}
		if s.head { // a walk would have no index to go along
			g.gather = s
		}
		st, ok := s.choose(&g)
		if !ok {
			continue
		}
		if st.way == bounded || st.way == byTime || s.head && st.visit > s.rows/wholeHead {
			st.way = along
		}
		list = append(list, st)
	}
	return merged(q, &x, list, filter.When, left)
}

// wholeHead: where an index finds more than this part of the head, reading all of it is
// cheaper.
const wholeHead = 3

const (
	// firstRadius is the first circle that is looked into, in metres, and
	// radiusGrowth how much wider the next one is: an area 16 times as large,
	// so that what is looked at is bounded by what is wanted, about.
	firstRadius  = 50
	radiusGrowth = 4
)

// byDistance looks into ever wider circles until one holds enough: those are the
// nearest then.
func (p *page) byDistance(ctx context.Context) error {
	radius := float64(firstRadius)
	if p.q.After != nil {
		radius = max(radius, p.q.After.Distance*1.1)
	}
	for {
		p.q.radius = min(radius, p.q.Near.Metres)
		last := p.q.radius == p.q.Near.Metres
		circle := p.q.Near
		circle.Metres = p.q.radius
		x := filter.Bound(filter.All(p.q.Filter, circle))
		x.Boxes = []filter.Box{circle.Bounds()}
		var list []step
		for _, s := range p.catalogue.reaching(x.Low, x.High, false) {
			if st, ok := s.choose(&goal{extent: &x, need: float64(p.left), gather: s}); ok {
				st.way = byBox
				list = append(list, st)
			}
		}
		if err := p.run(ctx, "page_by_distance", merged(&p.q, &x, list, "", p.left)); err != nil || p.full || last {
			return err
		}
		if p.handed { // the next circle continues after what this one had
			after := p.last
			p.q.After = &after
		}
		radius = radius * radiusGrowth
	}
}
