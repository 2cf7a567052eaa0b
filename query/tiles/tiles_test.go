package tiles

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/paulmach/orb"
	"github.com/paulmach/orb/encoding/mvt"
	"github.com/paulmach/orb/maptile"
)

func TestBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		z := r.Uint32N(MaxZoom + 1)
		tile := Tile{z, r.Uint32N(1 << z), r.Uint32N(1 << z)}
		west, south, east, north := tile.Bounds()
		want := maptile.New(tile.X, tile.Y, maptile.Zoom(z)).Bound()
		if tile.Y > 0 && math.Abs(north-want.Max[1]) > 2*slack || tile.Y < 1<<z-1 && math.Abs(south-want.Min[1]) > 2*slack ||
			math.Abs(west-want.Min[0]) > 2*slack || math.Abs(east-want.Max[0]) > 2*slack {
			t.Fatalf("%v: %v %v %v %v, want %v", tile, west, south, east, north, want)
		}
	}
}

func TestValid(t *testing.T) {
	for _, c := range []struct {
		tile Tile
		ok   bool
	}{{Tile{0, 0, 0}, true}, {Tile{0, 1, 0}, false}, {Tile{3, 7, 7}, true}, {Tile{3, 0, 8}, false}, {Tile{MaxZoom + 1, 0, 0}, false}} {
		if err := c.tile.Valid(); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.tile, err)
		}
	}
}

// cloud is n points around a hundred places, and at the ends of the earth.
func cloud(r *rand.Rand, n int) []Point {
	points := make([]Point, n)
	for i := range points {
		town := float64(r.IntN(100))
		at := orb.Point{math.Mod(town*37.7, 360) - 180 + r.NormFloat64()*0.3, math.Mod(town*13.3, 160) - 80 + r.NormFloat64()*0.3}
		at[0], at[1] = max(-180, min(180, at[0])), max(-90, min(90, at[1]))
		if i < 4 {
			at = []orb.Point{{-180, -90}, {180, 90}, {180, -90}, {-180, 90}}[i]
		}
		points[i] = Point{ID: fmt.Sprint(i), Name: "a name of the usual length", Time: "2026-11-21T22:43:01Z", At: at}
	}
	return points
}

func (l *Layer) put(p Point) { l.Add(p.At, func() Point { return p }) }

func decode(t *testing.T, body []byte) (singles, clustered int) {
	t.Helper()
	if len(body) > MaxBytes {
		t.Fatalf("%d bytes", len(body))
	}
	layers, err := mvt.Unmarshal(body)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if l.Name != LayerName || l.Version != 2 {
			t.Fatalf("layer %q of version %d", l.Name, l.Version)
		}
		for _, f := range l.Features {
			if n, ok := f.Properties["count"].(float64); ok {
				clustered += int(n)
			} else if f.Properties["id"] != nil {
				singles++
			} else {
				t.Fatalf("a feature with neither id nor count: %v", f.Properties)
			}
		}
	}
	return singles, clustered
}

// Of every point, exactly one tile of a zoom level shows it, alone or in a cluster,
// made of rows or of counts.
func TestEveryPointIsInOneTile(t *testing.T) {
	points := cloud(rand.New(rand.NewPCG(3, 4)), 20_000)
	var counts Counts
	for _, p := range points {
		column, row := Cell(p.At[0], p.At[1])
		counts.AddCell(column, row, 1)
	}
	counts.Sort()
	if counts.Points() != uint64(len(points)) {
		t.Fatalf("%d points are counted", counts.Points())
	}
	for _, z := range []uint32{0, 1, 3} {
		sums := map[string]int{}
		for x := range uint32(1) << z {
			for y := range uint32(1) << z {
				tile := Tile{z, x, y}
				rows, cells, parts := NewLayer(tile), NewLayer(tile), NewLayer(tile)
				for i := 0; i < len(points); i += 2500 {
					part := NewLayer(tile)
					for _, p := range points[i : i+2500] {
						rows.put(p)
						part.put(p)
					}
					parts.AddPart(part.Part())
				}
				cells.AddCounts(&counts)
				for name, l := range map[string]*Layer{"rows": rows, "counts": cells, "parts": parts} {
					body, err := l.Encode()
					if err != nil {
						t.Fatal(err)
					}
					singles, clustered := decode(t, body)
					sums[name] += singles + clustered
				}
				if n := counts.Within(tile); n > 0 != slices.ContainsFunc(cells.clusters, func(c cluster) bool { return c.n > 0 }) {
					t.Fatalf("%v has %d points", tile, n)
				}
			}
		}
		for name, n := range sums {
			if n != len(points) {
				t.Errorf("zoom level %d: %d of %d points by %s", z, n, len(points), name)
			}
		}
	}
}

// A point on an edge, at the antimeridian or at a pole is in the bounds of exactly
// one of the tiles of each zoom level that takes it.
func TestEdges(t *testing.T) {
	for _, at := range []orb.Point{{0, 0}, {180, 0}, {-180, 0}, {180, 90}, {-180, -90}, {0, 90}, {90, -90}, {45, 66.51326044311186}, {-90, -66.51326044311186},
		{0, 85.0511287798066}, {11.25, 0}, {179.9999999999, -40.97989806962013}, {2.8125, 48.92249926375824}} {
		for z := range uint32(MaxZoom + 1) {
			x, y := project(at)
			n := float64(uint32(1) << z)
			column, row := uint32(x*n), uint32(y*n)
			found := 0
			for _, dx := range []uint32{0, 1, 2} {
				for _, dy := range []uint32{0, 1, 2} {
					tile := Tile{z, column + dx - 1, row + dy - 1}
					if tile.Valid() != nil {
						continue
					}
					west, south, east, north := tile.Bounds()
					l := NewLayer(tile)
					if at[0] >= west && at[0] <= east && at[1] >= south && at[1] <= north {
						l.put(Point{ID: "a", At: at})
					}
					found += len(l.points)
				}
			}
			if found != 1 {
				t.Errorf("%v at zoom level %d is in %d tiles", at, z, found)
			}
		}
	}
}

// What is drawn does not depend on the order in which a database gives its rows, and
// the newest is drawn last.
func TestOrder(t *testing.T) {
	points := cloud(rand.New(rand.NewPCG(13, 14)), 500)
	for i := range points {
		points[i].Order = int64(i)
	}
	encode := func(points []Point) []byte {
		l := NewLayer(Tile{})
		for _, p := range points {
			l.put(p)
		}
		body, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	one := encode(points)
	slices.Reverse(points)
	if !slices.Equal(one, encode(points)) {
		t.Error("the bytes depend on the order of the rows")
	}
	layers, err := mvt.Unmarshal(one)
	if err != nil {
		t.Fatal(err)
	}
	if f := layers[0].Features; f[0].Properties["id"] != "0" || f[499].Properties["id"] != "499" {
		t.Error("not the oldest first")
	}
}

func TestFewPointsAreShownOneByOne(t *testing.T) {
	for _, c := range []struct{ points, singles int }{{0, 0}, {1, 1}, {MaxPoints, MaxPoints}, {MaxPoints + 1, -1}} {
		t.Run(fmt.Sprint(c.points), func(t *testing.T) {
			l := NewLayer(Tile{0, 0, 0})
			for _, p := range cloud(rand.New(rand.NewPCG(5, 6)), c.points+4)[4:] {
				l.put(p)
			}
			body, err := l.Encode()
			if err != nil {
				t.Fatal(err)
			}
			singles, clustered := decode(t, body)
			if singles+clustered != c.points || c.singles >= 0 && singles != c.singles || c.singles < 0 && clustered == 0 {
				t.Errorf("%d one by one, %d in clusters", singles, clustered)
			}
		})
	}
}

// Long texts make no tile larger than it may be.
func TestNoTileIsTooLarge(t *testing.T) {
	long := make([]byte, 255*4)
	for i := range long {
		long[i] = byte('a' + i%26)
	}
	l := NewLayer(Tile{0, 0, 0})
	for i, p := range cloud(rand.New(rand.NewPCG(7, 8)), MaxPoints) {
		p.ID, p.Name = fmt.Sprint(i, string(long[:200])), fmt.Sprint(i, string(long))
		l.put(p)
	}
	body, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if singles, clustered := decode(t, body); singles+clustered != MaxPoints {
		t.Errorf("%d one by one, %d in clusters", singles, clustered)
	}
}

// Cells are merged without losing a point, and the tiles stay whole.
func TestCoarsen(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	var counts Counts
	const n = 3 * maxCells
	for range n {
		counts.AddCell(r.Uint32N(1<<countBits), r.Uint32N(1<<countBits), 2)
	}
	counts.Sort()
	fine := counts.Within(Tile{2, 1, 2})
	counts.Coarsen()
	if len(counts.cells) > maxCells || counts.Points() != 2*n || counts.Within(Tile{2, 1, 2}) != fine {
		t.Errorf("%d cells with %d points, %d of %d in a tile", len(counts.cells), counts.Points(), counts.Within(Tile{2, 1, 2}), fine)
	}
	l := NewLayer(Tile{2, 1, 2})
	l.AddCounts(&counts)
	body, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, clustered := decode(t, body); clustered != int(fine) {
		t.Errorf("%d of %d points are shown", clustered, fine)
	}
}

// The counts of segments that were merged are those of their points together, however
// coarse each is.
func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	var list []*Counts
	var want uint64
	for _, n := range []int{1, 1000, 2 * maxCells, 3 * maxCells} {
		c := &Counts{}
		for range n {
			c.AddCell(r.Uint32N(1<<countBits), r.Uint32N(1<<countBits), 3)
		}
		c.Sort()
		c.Coarsen()
		list, want = append(list, c), want+c.Points()
	}
	sum := Sum(list...)
	if sum.Points() != want || len(sum.cells) > maxCells || !slices.IsSorted(sum.cells) {
		t.Errorf("%d points in %d cells, want %d points", sum.Points(), len(sum.cells), want)
	}
	for _, tile := range []Tile{{0, 0, 0}, {1, 0, 1}, {2, 3, 1}} {
		var n uint64
		for _, c := range list {
			n += c.Within(tile)
		}
		if sum.Within(tile) != n {
			t.Errorf("%v: %d, want %d", tile, sum.Within(tile), n)
		}
	}
	if Sum().Points() != 0 {
		t.Error("nothing sums up to something")
	}
}

func BenchmarkCounts(b *testing.B) {
	r := rand.New(rand.NewPCG(9, 10))
	var counts Counts
	for range 1_000_000 {
		counts.AddCell(r.Uint32N(1<<countBits), r.Uint32N(1<<countBits), 3)
	}
	counts.Sort()
	for b.Loop() {
		l := NewLayer(Tile{0, 0, 0})
		l.AddCounts(&counts)
		if _, err := l.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
