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
		if tile.Y > 0 && math.Abs(north-want.Max[1]) > 1e-9 || tile.Y < 1<<z-1 && math.Abs(south-want.Min[1]) > 1e-9 ||
			math.Abs(west-want.Min[0]) > 1e-9 || math.Abs(east-want.Max[0]) > 1e-9 {
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
		fromRows, fromCounts := 0, 0
		for x := range uint32(1) << z {
			for y := range uint32(1) << z {
				tile := Tile{z, x, y}
				west, south, east, north := tile.Bounds()
				rows, cells := NewLayer(tile), NewLayer(tile)
				for _, p := range points {
					// Edges belong to the tile in the east and south, but for the last.
					px, py := project(p.At)
					if n := float64(uint32(1) << z); uint32(px*n) == x && uint32(py*n) == y {
						if p.At[0] < west || p.At[0] > east || p.At[1] < south-1e-9 || p.At[1] > north+1e-9 {
							t.Fatalf("%v is out of the bounds of %v", p.At, tile)
						}
						rows.Add(p)
					}
				}
				cells.AddCounts(&counts)
				for l, sum := range map[*Layer]*int{rows: &fromRows, cells: &fromCounts} {
					body, err := l.Encode()
					if err != nil {
						t.Fatal(err)
					}
					singles, clustered := decode(t, body)
					*sum += singles + clustered
				}
				if n := counts.Within(tile); n > 0 != slices.ContainsFunc(cells.clusters, func(c cluster) bool { return c.n > 0 }) {
					t.Fatalf("%v has %d points", tile, n)
				}
			}
		}
		if fromRows != len(points) || fromCounts != len(points) {
			t.Errorf("zoom level %d: %d of rows, %d of counts, of %d points", z, fromRows, fromCounts, len(points))
		}
	}
}

func TestFewPointsAreShownOneByOne(t *testing.T) {
	for _, c := range []struct{ points, singles int }{{0, 0}, {1, 1}, {MaxPoints, MaxPoints}, {MaxPoints + 1, -1}} {
		t.Run(fmt.Sprint(c.points), func(t *testing.T) {
			l := NewLayer(Tile{0, 0, 0})
			for _, p := range cloud(rand.New(rand.NewPCG(5, 6)), c.points+4)[4:] {
				l.Add(p)
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
		l.Add(p)
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
