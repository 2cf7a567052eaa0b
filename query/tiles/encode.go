package tiles

import (
	"cmp"
	"slices"

	"github.com/paulmach/orb"
	"github.com/paulmach/orb/encoding/mvt"
	"github.com/paulmach/orb/geojson"
)

// LayerName is the name of the one layer of a tile.
const LayerName = "points"

// Media is the media type of a tile.
const Media = "application/vnd.mapbox-vector-tile"

// Encode gives the tile's bytes. Where the points with all that is told of them
// would be more than MaxBytes, their names and times are left out; where that is
// still too much, they become clusters.
func (l *Layer) Encode() ([]byte, error) {
	slices.SortFunc(l.points, func(a, b Point) int { return cmp.Compare(a.Order, b.Order) })
	for _, told := range []bool{true, false} {
		if l.clusters != nil {
			break
		}
		body, err := marshal(l.features(told))
		if err != nil || len(body) <= MaxBytes {
			return body, err
		}
	}
	l.gather()
	return marshal(l.clustered())
}

func marshal(features []*geojson.Feature) ([]byte, error) {
	if len(features) == 0 {
		return []byte{}, nil
	}
	return mvt.Marshal(mvt.Layers{{Name: LayerName, Version: 2, Extent: extent, Features: features}})
}

// features are the points one by one.
func (l *Layer) features(told bool) []*geojson.Feature {
	list := make([]*geojson.Feature, 0, len(l.points))
	for i := range l.points {
		p := &l.points[i]
		x, y := project(p.At)
		list = append(list, l.feature(x, y, properties(p, told)))
	}
	return list
}

func properties(p *Point, told bool) geojson.Properties {
	out := geojson.Properties{"id": p.ID}
	if told && p.Name != "" {
		out["name"] = p.Name
	}
	if told && p.Time != "" {
		out["time"] = p.Time
	}
	return out
}

// clustered are the clusters, in the order of their cells: equal contents are
// equal bytes.
func (l *Layer) clustered() []*geojson.Feature {
	var list []*geojson.Feature
	for i := range l.clusters {
		c := &l.clusters[i]
		if c.n == 0 {
			continue
		}
		told := geojson.Properties{"count": c.n}
		if c.n == 1 && c.one != nil {
			told = properties(c.one, false)
		}
		list = append(list, l.feature(c.x/float64(c.n), c.y/float64(c.n), told))
	}
	return list
}

// feature is one at this place on the map, in the tile's own coordinates.
func (l *Layer) feature(x, y float64, told geojson.Properties) *geojson.Feature {
	scale := float64(uint64(1) << l.tile.Z)
	f := geojson.NewFeature(orb.Point{float64(int((x*scale - float64(l.tile.X)) * extent)), float64(int((y*scale - float64(l.tile.Y)) * extent))})
	f.Properties = told
	return f
}
