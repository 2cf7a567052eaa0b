package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"time"
)

const (
	// tilePath is where tiles are, by zoom level, row and column.
	tilePath = "/collections/points/tiles/WebMercatorQuad"
	// deepestTile is the zoom level to which maps ask for tiles.
	deepestTile = 14
	// tileTowns are looked at in turn, each from the whole world down to its streets.
	tileTowns = 8
)

// tileOf is the path of the tile that shows a place.
func tileOf(zoom int, longitude, latitude float64) string {
	n := math.Exp2(float64(zoom))
	column := math.Floor((longitude/360 + 0.5) * n)
	row := math.Floor((0.5 - math.Asinh(math.Tan(latitude*math.Pi/180))/(2*math.Pi)) * n)
	return fmt.Sprintf("%s/%d/%.0f/%.0f", tilePath, zoom, row, column)
}

// tiles asks for the tiles around towns, one after the other and each for the first
// time, and again after a write, when only what the head gives has changed.
func (g *growth) tiles(ctx context.Context) error {
	for _, name := range []string{"at first", "after a write"} {
		slowest, largest := 0.0, 0
		for i := range tileTowns {
			t := towns[i*len(towns)/tileTowns]
			if name != "at first" {
				if err := g.writeOne(ctx); err != nil {
					return err
				}
			}
			for zoom := range deepestTile + 1 {
				begin := time.Now()
				body, err := get(g.sys.query + tileOf(zoom, t.longitude, t.latitude))
				if err != nil {
					return err
				}
				slowest, largest = max(slowest, float64(time.Since(begin).Microseconds())/1000), max(largest, len(body))
			}
		}
		g.note(fmt.Sprintf("slowest of the tiles of zoom 0 to %d around %d towns, %s", deepestTile, tileTowns, name), slowest, "ms")
		g.note("largest of these tiles, "+name, float64(largest)/1000, "KB")
	}
	return nil
}

// writeOne adds one point and waits until it can be read.
func (g *growth) writeOne(ctx context.Context) error {
	longitude, latitude := anyTown(g.rng).near(g.rng)
	body := fmt.Sprintf(`{"longitude":%.6f,"latitude":%.6f}`, longitude, latitude)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.sys.ingest+"/point", bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Prefer", "wait=30")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("POST /point: %s", resp.Status)
	}
	return nil
}
