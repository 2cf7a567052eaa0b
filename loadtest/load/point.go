package load

import (
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
)

const (
	// decimals of a degree that a point is given with: about a metre.
	decimals = 5
	// recentPaths is how many of the newest points are asked for singly.
	recentPaths = 1024
)

// points makes the points of a run and knows what became of them. A point is
// made of its number alone, so that the verification can make it again instead
// of keeping it.
type points struct {
	name  string
	seed  uint64
	next  atomic.Uint64
	acked atomic.Int64

	mu     sync.Mutex
	rng    *rand.Rand
	keep   int
	kept   []acked
	seen   int64 // acknowledged so far: the reservoir's count
	recent [recentPaths]string
	filled int
}

// An acked point was answered with success.
type acked struct {
	number uint64
	path   string // as the target gave it; "" where it gave none
}

func newPoints(c *Config) *points {
	return &points{name: c.Name, seed: c.Seed, keep: c.Keep, rng: rand.New(rand.NewPCG(c.Seed, 1))}
}

// take reserves n numbers and returns the first.
func (p *points) take(n int) uint64 { return p.next.Add(uint64(n)) - uint64(n) }

// place is where point number n lies, evenly over longitudes and latitudes as
// the tutorial has it.
func (p *points) place(n uint64) (longitude, latitude float64) {
	rng := rand.New(rand.NewPCG(p.seed, n+2))
	return round(rng.Float64()*360 - 180), round(rng.Float64()*180 - 90)
}

func round(degrees float64) float64 {
	scale := math.Pow10(decimals)
	return math.Round(degrees*scale) / scale
}

// appendPoint writes point number n as JSON, with an id unless that is "".
func (p *points) appendPoint(dst []byte, n uint64, id string) []byte {
	longitude, latitude := p.place(n)
	dst = append(dst, `{"longitude":`...)
	dst = strconv.AppendFloat(dst, longitude, 'f', -1, 64)
	dst = append(dst, `,"latitude":`...)
	dst = strconv.AppendFloat(dst, latitude, 'f', -1, 64)
	dst = append(dst, `,"name":"`...)
	dst = p.appendName(dst, n)
	dst = append(dst, '"')
	if id != "" {
		dst = append(append(append(dst, `,"id":"`...), id...), '"')
	}
	return append(dst, '}')
}

func (p *points) appendName(dst []byte, n uint64) []byte {
	dst = append(append(dst, p.name...), '-')
	return strconv.AppendUint(dst, n, 10)
}

// acknowledge remembers the point, or does not: each of all has the same chance
// to be among those kept (Vitter's algorithm R). The path is made only if it is
// needed.
func (p *points) acknowledge(n uint64, path func() string) {
	p.acked.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen++
	at := -1
	if len(p.kept) < p.keep {
		p.kept = append(p.kept, acked{})
		at = len(p.kept) - 1
	} else if i := p.rng.Int64N(p.seen); i < int64(p.keep) {
		at = int(i)
	}
	text := path()
	if at >= 0 {
		p.kept[at] = acked{n, text}
	}
	p.remember(text)
}

// remember adds to the points that are asked for singly; p.mu is held.
func (p *points) remember(path string) {
	if path == "" {
		return
	}
	p.recent[p.filled%recentPaths] = path
	p.filled++
}

// known is one of the points that exist, or "".
func (p *points) known(rng *rand.Rand) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(p.filled, recentPaths)
	if n == 0 {
		return ""
	}
	return p.recent[rng.IntN(n)]
}
