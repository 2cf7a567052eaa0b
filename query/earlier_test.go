package query

import (
	"strings"
	"testing"

	"cairn/schema"
)

// A segment that was the table of an earlier version has its columns in another
// order, and nothing is known of it: every way to read goes over it and the others.
func TestSegmentOfAnEarlierVersion(t *testing.T) {
	f := newFixture(t)
	f.exec(`create table points_9 (id uuid primary key, external_id text, external_id_number boolean, position bigint not null unique, name text,
		geom geometry(Point, 4326), altitude double precision, observed_at timestamptz, received_at timestamptz not null, properties jsonb, members jsonb)`)
	f.exec(`alter table points_9 add column revision bigint, add column author text`)
	f.exec(schema.GrantLike(9))
	f.exec(`update segments set low = 8192 where state = 'head'`)
	f.exec(`insert into segments (id, low, high, state) values (9, 0, 8192, 'sealed')`)
	f.exec(`insert into points_9 (id, external_id, position, geom, received_at, name) values (gen_random_uuid(), 'old', 4096, ST_SetSRID(ST_MakePoint(1, 1), 4326), '2026-11-21Z', 'a')`)
	f.exec(`update checkpoint set catalogue = catalogue + 1`)
	f.put(2, [2]float64{1.01, 1})
	for query, want := range map[string]string{
		"":                    "p2.0 old",
		"bbox=0,0,2,2":        "p2.0 old",
		"sortby=position":     "old p2.0",
		"sortby=time":         "old p2.0",
		"sortby=-time":        "p2.0 old",
		"near=1,1,5000":       "old p2.0",
		"name=a":              "old",
		"datetime=2026-11-21": "p2.0 old",
	} {
		if got := strings.Join(f.ordered("/points?"+query), " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	for _, path := range []string{"/points.csv", "/points?numberMatched=true", "/collections/points/items?sortby=-time"} {
		if r := f.get(path); r.status != 200 || !strings.Contains(string(r.body), "old") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}
