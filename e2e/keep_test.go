package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"

	"github.com/jackc/pgx/v5"
)

// keepPatience is what the projector may take to seal and drop a segment, on a busy machine.
const keepPatience = time.Minute

// What --keep dropped is answered like what never was, whether it was live, changed or
// deleted. A retry of its creation creates a point, and so does a put. A page from before
// says where to begin.
func TestAnswersForDroppedPoints(t *testing.T) {
	database := testkit.Postgres(t)
	s := serve(t, testrig.DataFolder(t), "--database-url", database, "--keep", "1h")
	point := func(id string) string {
		return fmt.Sprintf(`{"type":"Feature","id":%q,"geometry":{"type":"Point","coordinates":[1,2]},"properties":{}}`, id)
	}
	const keyed = `{"longitude":3,"latitude":4}`
	do := func(want int, method, path, media, body string, header ...string) testrig.Answer {
		t.Helper()
		a := write(t, method, s.Base+path, media, body, append(header, "Prefer", "wait=30")...)
		if a.Status != want {
			t.Errorf("%s %s %v: %d %s, want %d", method, path, header, a.Status, a.Body, want)
		}
		return a
	}
	do(http.StatusCreated, http.MethodPost, "/point", geoJSON, point("live"))
	do(http.StatusCreated, http.MethodPost, "/point", geoJSON, point("deleted"))
	do(http.StatusNoContent, http.MethodDelete, "/point/deleted", "", "")
	do(http.StatusGone, http.MethodGet, "/points/deleted", "", "")
	retried := do(http.StatusCreated, http.MethodPost, "/point", "application/json", keyed, "Idempotency-Key", "k")
	_, id, _ := strings.Cut(retried.Header.Get("Location"), "/points/")
	id, _, _ = strings.Cut(id, "?")
	tag := testTag(t, s.Base+"/points/live")
	var page testrig.Page
	testrig.MustGet(t, s.Base+"/points?limit=1", &page)

	ageHead(t, database)
	// Nothing is written meanwhile: what is cached of them is not served on either.
	testkit.Eventually(t, keepPatience, "the points to be dropped", func() bool {
		return write(t, http.MethodGet, s.Base+"/points/live", "", "").Status == http.StatusNotFound
	})
	do(http.StatusNotFound, http.MethodGet, "/points/deleted", "", "")
	do(http.StatusNotFound, http.MethodGet, "/points/"+id, "", "")
	if a := write(t, http.MethodGet, page.Next(), "", ""); a.Status != http.StatusGone || !strings.Contains(a.Header.Get("Link"), `rel="first"`) {
		t.Errorf("a page from before: %d %v %s", a.Status, a.Header, a.Body)
	}
	for _, id := range []string{"live", "deleted"} {
		do(http.StatusNotFound, http.MethodPatch, "/point/"+id, mergePatch, `{"properties":{"n":1}}`)
		do(http.StatusNotFound, http.MethodPatch, "/point/"+id, mergePatch, `{"properties":{"n":1}}`, "If-Match", tag)
		do(http.StatusNotFound, http.MethodPut, "/point/"+id, geoJSON, point(id), "If-Match", tag)
		do(http.StatusNotFound, http.MethodDelete, "/point/"+id, "", "")
		do(http.StatusNotFound, http.MethodDelete, "/point/"+id, "", "", "If-Match", tag)
	}
	do(http.StatusCreated, http.MethodPost, "/point", "application/json", keyed, "Idempotency-Key", "k")
	do(http.StatusOK, http.MethodGet, "/points/"+id, "", "")
	do(http.StatusCreated, http.MethodPut, "/point/live", geoJSON, point("live"), "If-None-Match", "*")
	do(http.StatusCreated, http.MethodPost, "/point", geoJSON, point("deleted"))
	do(http.StatusOK, http.MethodGet, "/points/deleted", "", "")
}

// ageHead makes all that was received two hours older.
func ageHead(t *testing.T, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var head int
	err = conn.QueryRow(t.Context(), `select id from segments where state = 'head'`).Scan(&head)
	if err == nil {
		_, err = conn.Exec(t.Context(), fmt.Sprintf(`update points_%d set received_at = received_at - interval '2 hours'`, head))
	}
	if err != nil {
		t.Fatal(err)
	}
}
