package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/testkit"
	"cairn/internal/web"
	"cairn/projector"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A real is the role with a real queue, a real projector and a real database.
type real struct {
	t       *testing.T
	address string
	url     string
	halt    func()                  // stops the projector
	another func() (address string) // starts one more of the role
}

func newReal(t *testing.T, change ...func(*Config)) *real {
	t.Helper()
	nats, url := testkit.NATS(t), testkit.Postgres(t)
	r := &real{t: t, url: url}
	_, r.halt = r.role(func(ctx context.Context, s *web.Server) error {
		return projector.Run(ctx, projector.Config{Server: s, Bus: nats.Endpoint(bus.UserProjector), DatabaseURL: url, MaxBytes: bus.MinMaxBytes,
			Replay: projector.ReplayWindow{Age: projector.DefaultReplayAge}, Log: testkit.Log(t)})
	})
	r.another = func() string {
		address, _ := r.role(func(ctx context.Context, s *web.Server) error {
			cfg := Config{Server: s, Bus: nats.Endpoint(bus.UserIngest), Log: testkit.Log(t)}
			for _, c := range change {
				c(&cfg)
			}
			return Run(ctx, cfg)
		})
		return address
	}
	r.address = r.another()
	return r
}

// role runs a role with a server of its own, and waits until it is ready.
func (r *real) role(run func(context.Context, *web.Server) error) (address string, stop func()) {
	r.t.Helper()
	s, err := web.Listen(web.Config{Listen: "127.0.0.1:0", Log: testkit.Log(r.t)}, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- run(ctx, s) }()
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(stop)
	testkit.Eventually(r.t, 30*time.Second, "the role is ready", func() bool {
		response, err := http.Get("http://" + s.Addr() + "/readyz")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return s.Addr(), stop
}

func (r *real) do(method, path, contentType, body string, headers ...string) answer {
	r.t.Helper()
	return do(r.t, method, r.address, path, contentType, strings.NewReader(body), headers...)
}

// count is how many points the database shows.
func (r *real) query(sql string, args ...any) (text string) {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(r.t.Context(), sql, args...).Scan(&text); err != nil {
		r.t.Fatal(err)
	}
	return text
}

const (
	asJSON  = "application/json"
	waiting = "Prefer"
	long    = "wait=20"
)

func point(lon int, more string) string {
	return fmt.Sprintf(`{"longitude":%d,"latitude":2%s}`, lon, more)
}

func etag(position any) string { return fmt.Sprintf(`"%.0f"`, position) }

// A point's whole life, each answer as it is promised.
func TestChangesOfOnePoint(t *testing.T) {
	r := newReal(t)
	at := "/point/" + "caf%C3%A9%2F1"

	r.do("DELETE", at, "", "", waiting, long).want(t, http.StatusNotFound, "no point with this id")
	r.do("PATCH", at, mergePatchType, `{"properties":{"a":1}}`).want(t, http.StatusNotFound)
	r.do("PUT", at, asJSON, point(1, ""), "If-Match", "*").want(t, http.StatusNotFound)
	r.do("PUT", at, asJSON, point(1, ""), "If-Match", `"4096"`).want(t, http.StatusNotFound)

	a := r.do("PUT", at, asJSON, point(1, `,"name":"one"`), "If-None-Match", "*")
	a.want(t, http.StatusCreated, `"id":"café/1"`, `"outcome":"created"`)
	first := etag(a.json["position"])
	if a.header.Get("ETag") != first || !strings.HasPrefix(a.header.Get("Location"), "/points/caf%C3%A9%2F1?min_position=") {
		t.Errorf("%v", a.header)
	}
	r.do("PUT", at, asJSON, point(2, ""), "If-None-Match", "*").want(t, http.StatusPreconditionFailed, `"revision":`+strings.Trim(first, `"`))
	a = r.do("PUT", at, asJSON, point(1, `,"name":"one"`), waiting, long)
	if a.want(t, http.StatusOK, `"outcome":"unchanged"`); a.header.Get("ETag") != first || a.header.Get("Preference-Applied") != "wait=20" {
		t.Errorf("%v, want the ETag %s", a.header, first)
	}
	a = r.do("PUT", at, asJSON, point(2, `,"name":"two"`), "If-Match", `W/"77", "5", `+first)
	a.want(t, http.StatusOK, `"outcome":"replaced"`)
	second := a.header.Get("ETag")
	if second == first || second != etag(a.json["position"]) {
		t.Errorf("ETag %s after %s", second, first)
	}
	for _, stale := range []string{first, `W/` + second, `"none"`, `"1", "2"`} {
		r.do("PUT", at, asJSON, point(3, ""), "If-Match", stale).want(t, http.StatusPreconditionFailed)
		r.do("PATCH", at, mergePatchType, `{"a":1}`, "If-Match", stale).want(t, http.StatusPreconditionFailed)
		r.do("DELETE", at, "", "", "If-Match", stale).want(t, http.StatusPreconditionFailed)
	}
	a = r.do("PATCH", at, mergePatchType, `{"properties":{"name":null,"n":1.50},"geometry":{"coordinates":[3,4,5]},"mark":[1]}`, "If-Match", second)
	a.want(t, http.StatusOK, `"outcome":"replaced"`)
	third := a.header.Get("ETag")
	got := r.query(`select st_astext(geom) || altitude || properties || members || coalesce(name, '-') || revision || external_id from points`)
	if want := `POINT(3 4)5{"n": 1.50}{"mark": [1]}-` + strings.Trim(third, `"`) + `café/1`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.do("PATCH", at, mergePatchType, `{"mark":null}`, waiting, long).want(t, http.StatusOK)
	r.do("PATCH", at, mergePatchType, `{}`, waiting, long).want(t, http.StatusOK, `"outcome":"unchanged"`)
	r.do("PATCH", at, mergePatchType, `{"geometry":null}`).want(t, http.StatusUnprocessableEntity, "geometry")
	r.do("PATCH", at, mergePatchType, `{"geometry":{"coordinates":[3,99]}}`).want(t, http.StatusUnprocessableEntity, "/geometry/coordinates/1")
	r.do("PATCH", at, mergePatchType, `{"id":"other"}`).want(t, http.StatusUnprocessableEntity, "keeps its id")
	r.do("PATCH", at, mergePatchType, `{"name":"x"}`).want(t, http.StatusUnprocessableEntity, "in its properties")
	r.do("PATCH", at, asJSON, `{}`).want(t, http.StatusUnsupportedMediaType, mergePatchType)

	if a := r.do("DELETE", at, "", "", waiting, long); a.status != http.StatusNoContent || a.body != "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	r.do("DELETE", at, "", "", waiting, long).want(t, http.StatusGone)
	r.do("PATCH", at, mergePatchType, `{"a":1}`).want(t, http.StatusGone)
	r.do("PUT", at, asJSON, point(1, ""), "If-Match", third).want(t, http.StatusGone)
	// A late retry of the creation does not bring it back; a put does.
	r.do("POST", "/point", asJSON, point(1, `,"id":"café/1"`), waiting, long).want(t, http.StatusOK, `"outcome":"unchanged"`, "was deleted")
	r.do("PUT", at, asJSON, point(1, ""), "If-None-Match", "*").want(t, http.StatusCreated)
}

// Without a preference or a condition a change is answered when it is on disk.
func TestChangesAreAcceptedFirst(t *testing.T) {
	r := newReal(t)
	r.do("PUT", "/points/a", asJSON, point(1, "")).want(t, http.StatusAccepted, `{"id":"a","position":4096}`)
	// A patch sees what was acknowledged before it, projected or not.
	r.do("PATCH", "/points/a", mergePatchType, `{"properties":{"n":1}}`).want(t, http.StatusAccepted, `{"id":"a","position":`)
	a := r.do("DELETE", "/points/a", "", "")
	if a.want(t, http.StatusAccepted, `{"id":"a","position":`); a.header.Get("Location") != "" {
		t.Errorf("%v", a.header)
	}
	r.do("PUT", "/point/a", asJSON, point(1, ""), waiting, "respond-async", "If-None-Match", "*").want(t, http.StatusAccepted)
	r.do("PATCH", "/point/a", mergePatchType, `{"properties":{"n":2}}`).want(t, http.StatusAccepted)
	r.do("POST", "/point", asJSON, point(7, `,"id":"a"`)).want(t, http.StatusAccepted, `"note":"`)
	r.do("POST", "/point", asJSON, point(7, `,"id":"a"`), waiting, long).want(t, http.StatusConflict, "PUT /point/{id}")
	r.halt()
	r.do("PATCH", "/point/a", mergePatchType, `{"properties":{"n":2}}`).want(t, http.StatusServiceUnavailable, "does not answer")
	r.do("PUT", "/point/a", asJSON, point(1, ""), waiting, "wait=1").want(t, http.StatusAccepted)
}

func TestIDsOfChanges(t *testing.T) {
	r := newReal(t)
	// A number stays one, and Cairn's own id is none of the client's.
	r.do("POST", "/point", asJSON, point(1, `,"id":42`), waiting, long).want(t, http.StatusCreated)
	r.do("PUT", "/point/42", asJSON, point(2, ""), waiting, long).want(t, http.StatusOK, `"id":42,`)
	r.do("PATCH", "/point/42", mergePatchType, `{"properties":{"n":2}}`, waiting, long).want(t, http.StatusOK, `"id":42,`)
	r.do("PUT", "/point/42", geojson, feature(`"42"`, "null"), waiting, long).want(t, http.StatusOK, `"id":"42"`)
	r.do("PUT", "/point/42", asJSON, point(2, `,"id":43`)).want(t, http.StatusBadRequest, `"pointer":"/id"`)
	a := r.do("POST", "/point", asJSON, point(1, ""), waiting, long)
	id := a.json["id"].(string)
	r.do("PUT", "/point/"+id, geojson, feature(`"`+id+`"`, "null"), waiting, long).want(t, http.StatusOK, `"id":"`+id+`"`)
	if got := r.query(`select coalesce(external_id, '-') from points where id = $1`, id); got != "-" {
		t.Errorf("its external id is %s", got)
	}
	for path, status := range map[string]int{"%ff": 400, "a%00": 400, strings.Repeat("x", 256): 400, "a?x=1": 400, "a/b": 404} {
		if a := r.do("PUT", "/point/"+path, asJSON, point(1, "")); a.status != status {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	r.do("PUT", "/point/a", ndjson, point(1, "")).want(t, http.StatusUnsupportedMediaType, onePointTypes)
	r.do("GET", "/point/a", "", "").want(t, http.StatusMethodNotAllowed)
}

// A point may have any id; one that is a word of a path under /point is changed under
// the paths where points have all of them.
func TestIDsThatAreWordsOfPaths(t *testing.T) {
	r := newReal(t)
	for _, id := range []string{"osmand", "owntracks", "overland"} {
		r.do("POST", "/point", asJSON, point(1, `,"id":"`+id+`"`), waiting, long).want(t, http.StatusCreated)
		r.do("PUT", "/point/"+id, asJSON, point(3, "")).want(t, http.StatusMethodNotAllowed)
		for lon, at := range []string{"/points/" + id, itemsPath + "/" + id} {
			r.do("PUT", at, asJSON, point(4+lon, ""), waiting, long).want(t, http.StatusOK, `"outcome":"replaced"`)
			r.do("PATCH", at, mergePatchType, fmt.Sprintf(`{"properties":{"a":%d}}`, lon), waiting, long).want(t, http.StatusOK, `"outcome":"replaced"`)
			if got := r.query(`select count(*)::text from points where external_id = $1 and st_x(geom) = $2`, id, 4+lon); got != "1" {
				t.Errorf("%s: %s points are so", at, got)
			}
		}
		r.do("DELETE", "/points/"+id, "", "", waiting, long).want(t, http.StatusNoContent)
	}
	// Others are no path alone.
	for _, id := range []string{"uploads", "from"} {
		r.do("PUT", "/point/"+id, asJSON, point(1, ""), waiting, long).want(t, http.StatusCreated)
		r.do("DELETE", "/point/"+id, "", "", waiting, long).want(t, http.StatusNoContent)
	}
}

// JSON is in UTF-8, whatever a Content-Type says.
func TestCharsetOfChanges(t *testing.T) {
	r := newReal(t)
	for _, x := range []struct{ method, path, contentType, body, name string }{
		{"PUT", "/point/a", asJSON, point(1, ""), "iso-8859-1"},
		{"PATCH", "/point/a", mergePatchType, `{"properties":{"n":1}}`, "latin1"},
		{"POST", itemsPath, geojson, feature("null", "null"), "latin1"},
	} {
		for _, charset := range []string{"; charset=utf-8", "; charset=UTF-8", ""} {
			if a := r.do(x.method, x.path, x.contentType+charset, x.body, waiting, long); a.status/100 != 2 {
				t.Errorf("%s with %s: %d %s", x.method, charset, a.status, a.body)
			}
		}
		a := r.do(x.method, x.path, x.contentType+"; charset="+x.name, x.body, waiting, long)
		a.want(t, http.StatusUnsupportedMediaType, "in UTF-8 only, and the Content-Type says charset="+x.name)
		if a.header.Get("Accept")+a.header.Get(headerAcceptPatch) == "" {
			t.Errorf("%s: it does not say what is taken: %v", x.method, a.header)
		}
	}
}

// Patches of one point at once: none is lost.
func TestPatchesDoNotLoseEachOther(t *testing.T) {
	r := newReal(t)
	r.do("PUT", "/point/a", asJSON, point(1, ""), waiting, long).want(t, http.StatusCreated)
	const writers, each = 4, 5
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				patch := fmt.Sprintf(`{"properties":{"w%d-%d":true}}`, w, i)
				testkit.Eventually(t, 60*time.Second, "the patch is taken", func() bool {
					return r.do("PATCH", "/point/a", mergePatchType, patch, waiting, long).status == http.StatusOK
				})
			}
		})
	}
	group.Wait()
	if got := r.query(`select count(*)::text from points, jsonb_object_keys(properties)`); got != fmt.Sprint(writers*each) {
		t.Errorf("%s properties, want %d", got, writers*each)
	}
}

func TestRequiredConditions(t *testing.T) {
	r := newReal(t, func(c *Config) { c.RequireConditions = true })
	r.do("PUT", "/point/a", asJSON, point(1, "")).want(t, http.StatusPreconditionRequired, "If-Match")
	r.do("DELETE", "/point/a", "", "").want(t, http.StatusPreconditionRequired)
	r.do("PATCH", "/point/a", mergePatchType, "{}").want(t, http.StatusPreconditionRequired)
	r.do("PUT", "/point/a", asJSON, point(1, ""), "If-None-Match", "*").want(t, http.StatusCreated)
	r.do("POST", "/point", asJSON, point(1, "")).want(t, http.StatusAccepted)
}

func TestOutcomesOfUploads(t *testing.T) {
	r := newReal(t)
	row := func(id, lon int) string { return point(lon, fmt.Sprintf(`,"id":"%d"`, id)) + "\n" }
	body := row(1, 1) + "\nbad\n" + row(2, 1) + row(3, 1)
	a := r.do("POST", "/point", ndjson, body, waiting, long)
	a.want(t, http.StatusOK, `"accepted":3,"rejected":1`, `"created":3,"unchanged":0,"replaced":0,"conflicts":0}`)
	if a.header.Get("Preference-Applied") != "wait=20" {
		t.Errorf("%v", a.header)
	}
	mixed := row(1, 1) + "\n" + row(2, 5) + row(4, 1) + `{"delete":"3"}` + "\n" + `{ "delete" : 99 }` + "\n" + row(3, 1)
	r.do("POST", "/point", ndjson, mixed, waiting, long).want(t, http.StatusOK, `"created":1,"unchanged":2,"deleted_before":1,"replaced":0,"deleted":1,"missing":1,"conflicts":1`,
		`"conflicts":[3]`, `"deleted":[5]`, `"missing":[6]`, `"unchanged":[1,7]`, `"deleted_before":[7]`, "on-conflict=replace")
	r.do("POST", "/point?on-conflict=skip", ndjson, row(1, 1)+row(2, 6)+row(5, 1), waiting, long).
		want(t, http.StatusOK, `"created":1,"unchanged":0,"replaced":0,"skipped":2,"conflicts":0`, `"skipped":[1,2]`)
	r.do("POST", "/point?on-conflict=replace", ndjson, row(1, 1)+row(2, 6)+row(3, 7)+row(6, 1), waiting, long).
		want(t, http.StatusOK, `"created":2,"unchanged":1,"replaced":1,"conflicts":0`, `"replaced":[2]`)
	r.do("POST", "/point?on-conflict=replace", asJSON, point(9, `,"id":"2"`), waiting, long).want(t, http.StatusOK, `"outcome":"replaced"`)
	r.do("POST", "/point?on-conflict=skip", asJSON, point(8, `,"id":"2"`), waiting, long).want(t, http.StatusOK, `"outcome":"skipped"`)
	r.do("POST", "/point?on-conflict=panic", ndjson, row(1, 1)).want(t, http.StatusBadRequest, "park, replace or skip")
	if got := r.query(`select count(*)::text from parked`); got != "1" {
		t.Errorf("%s are parked", got)
	}
	for line, reason := range map[string]string{`{"delete":null}`: "a string or a number", `{"delete":""}`: "1 to 255", `{"delete":"a","x":1}`: "no other member", `{"delete":"a"} 1`: "something follows"} {
		r.do("POST", "/point", ndjson, line).want(t, http.StatusUnprocessableEntity, reason)
	}
	r.halt()
	r.do("POST", "/point", ndjson, row(7, 1), waiting, "wait=1").want(t, http.StatusAccepted, `"open":1`)
}

// Rows of points that were deleted since are told apart from those that are there.
func TestUploadsOfDeletedPoints(t *testing.T) {
	r := newReal(t)
	row := func(id, lon int) string { return point(lon, fmt.Sprintf(`,"id":"%d"`, id)) + "\n" }
	body := row(1, 1) + row(2, 1) + row(3, 1)
	r.do("POST", "/point", ndjson, body, keyed, "k", waiting, long).want(t, http.StatusOK, `"created":3`)
	for _, id := range []string{"1", "3"} {
		r.do("DELETE", "/point/"+id, "", "", waiting, long).want(t, http.StatusNoContent)
	}
	told := []string{`"created":0,"unchanged":3,"deleted_before":2`, `"deleted_before":[1,3]`, `"unchanged":[1,2,3]`,
		"deleted, and stay so: ?on-conflict=replace creates them again"}
	r.do("POST", "/point", ndjson, body, waiting, long).want(t, http.StatusOK, told...)
	r.do("POST", "/point", ndjson, body, keyed, "k", waiting, long).want(t, http.StatusOK, told...)
	r.do("GET", "/point/uploads/k", "", "").want(t, http.StatusOK, told...)
	r.do("POST", "/point?on-conflict=skip", ndjson, row(1, 1)+row(2, 1), waiting, long).
		want(t, http.StatusOK, `"unchanged":1,"deleted_before":1`, `"skipped":1`, `"deleted_before":[1]`)
	// Of other content, it is no conflict: there is none to keep.
	r.do("POST", "/point", ndjson, row(1, 5)+row(2, 5), waiting, long).
		want(t, http.StatusOK, `"unchanged":1,"deleted_before":1`, `"conflicts":1`, "skip leaves them out. Those deleted_before")
	r.do("POST", "/point?on-conflict=replace", ndjson, body, waiting, long).want(t, http.StatusOK, `"created":2,"unchanged":1,"replaced":0,"conflicts":0`)
	if got := r.query(`select count(*)::text from points`); got != "3" {
		t.Errorf("%s points", got)
	}
}

// The rows that an answer names are those of the body, over many envelopes.
func TestRowsOfOutcomes(t *testing.T) {
	r := newReal(t)
	var known, all strings.Builder
	for i := range 4500 {
		line := point(1, fmt.Sprintf(`,"id":"k%d"`, i)) + "\n"
		if i%1000 == 17 {
			known.WriteString(line)
		}
		if i%700 == 3 {
			all.WriteString("\n")
		}
		all.WriteString(line)
	}
	r.do("POST", "/point", ndjson, known.String(), waiting, long).want(t, http.StatusOK, `"created":5`)
	r.do("POST", "/point", ndjson, all.String(), waiting, long).
		want(t, http.StatusOK, `"created":4495,"unchanged":5`, `"rows":{"unchanged":[19,1020,2021,3023,4024]}`)
	if position := event.Position(r.do("POST", "/point", ndjson, all.String(), waiting, long).json["position"].(float64)); position.Sequence() < 5 {
		t.Errorf("position %d", position)
	}
}
