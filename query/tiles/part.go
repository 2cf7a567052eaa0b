package tiles

// A Part is what one segment gives to a tile: its points one by one where they are
// few, else clusters. It is kept for as long as the segment does not change.
type Part struct {
	points []Point
	cells  []uint16 // of the tile's grid, those that have points
	sums   []cluster
	n      uint64
}

// Part is what the layer has gathered. The layer must not be used any more.
func (l *Layer) Part() *Part {
	p := &Part{points: l.points, n: uint64(len(l.points))}
	for cell := range l.clusters {
		if c := &l.clusters[cell]; c.n > 0 {
			p.cells, p.sums = append(p.cells, uint16(cell)), append(p.sums, *c) //nolint:gosec // below 2¹²
			p.n += c.n
		}
	}
	return p
}

// Points is how many there are.
func (p *Part) Points() uint64 { return p.n }

// Bytes is about what the part takes in memory.
func (p *Part) Bytes() int {
	const point, sum = 88, 34
	n := 64 + len(p.points)*point + len(p.cells)*sum
	for i := range p.points {
		n += p.points[i].text()
	}
	for i := range p.sums {
		if one := p.sums[i].one; one != nil {
			n += point + one.text()
		}
	}
	return n
}

func (p *Point) text() int { return len(p.ID) + len(p.Name) + len(p.Time) }

// AddPart adds what one segment gives.
func (l *Layer) AddPart(p *Part) {
	if p.cells == nil && l.clusters == nil && len(l.points)+len(p.points) <= MaxPoints {
		l.points = append(l.points, p.points...)
		return
	}
	l.gather()
	for i, cell := range p.cells {
		l.join(int(cell), p.sums[i])
	}
	for i := range p.points {
		x, y := project(p.points[i].At)
		if cell, ok := l.cell(x, y); ok {
			l.join(cell, cluster{1, x, y, &p.points[i]})
		}
	}
}
