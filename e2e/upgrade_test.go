//go:build e2eupgrade

package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

var upgradeFrom = flag.String("upgrade-from", "last", "the revision that TestUpgrade upgrades from, or 'last' for the last release")

const (
	// upgradeRows are loaded at once: more than the head of the table holds, so that
	// there are sealed segments.
	upgradeRows = 140_000
	// upgradeChanged of them are replaced, and as many deleted: more than change in
	// place in a sealed segment.
	upgradeChanged = 100
	upgradeSingle  = 20
)

// What the last release has written, this version serves: every point with its id,
// place, properties, times, position and revision; deleted points stay deleted, and
// retries of old writes add nothing.
func TestUpgrade(t *testing.T) {
	from := *upgradeFrom
	if from == "last" {
		from = lastRelease(t)
	}
	old := buildRevision(t, from)
	data := testrig.DataFolder(t)
	arguments := []string{"serve", "--listen", testrig.FreePort(t), "--nats-listen", testrig.FreePort(t), "--data", data}

	s := testrig.Command{Program: old, Args: arguments}.Serve(t)
	u := &upgrade{t: t, base: s.Base}
	u.fill()
	parked := s.Settled().Query.Parked
	before := testrig.AllPoints(t, s.Base)
	s.MustStop()
	t.Logf("%s: %d points, %d parked events", from, len(before), parked)

	s = cairn(arguments...).Serve(t)
	u.compare(before, "after the upgrade")
	u.retry()
	if now := s.Settled().Query.Parked; now != parked {
		t.Errorf("%d events are parked, %d were", now, parked)
	}
	u.compare(before, "after retries")
	_, fresh := testrig.MustPost(t, s.Base+"/point", `{"longitude":7,"latitude":8,"name":"new"}`)
	s.Settled()
	if n := len(testrig.AllPoints(t, s.Base)); n != len(before)+1 {
		t.Errorf("after a write to the new version, at %d, there are %d points, not %d", fresh.Position, n, len(before)+1)
	}
	s.Leave()
}

var released = regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\]`)

// lastRelease is the newest tag of a version before this commit, which may have one
// itself, or the commit that put the newest released version into the changelog.
func lastRelease(t *testing.T) string {
	if tag, err := exec.Command("git", "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^").Output(); err == nil {
		return strings.TrimSpace(string(tag))
	}
	version := released.FindStringSubmatch(git(t, "show", "HEAD:CHANGELOG.md"))
	if version == nil {
		t.Fatal("CHANGELOG.md has no released version")
	}
	commits := strings.Fields(git(t, "log", "--format=%H", "-S## ["+version[1]+"]", "--", ":/CHANGELOG.md"))
	if len(commits) == 0 {
		t.Fatalf("no commit released %s: the history may be cut off", version[1])
	}
	return commits[len(commits)-1]
}

func git(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		t.Fatalf("git %v: %v", args, err)
	}
	return string(out)
}

// buildRevision builds an older version from the repository's history.
func buildRevision(t *testing.T, revision string) (program string) {
	t.Helper()
	dir := t.TempDir()
	root := strings.TrimSpace(git(t, "rev-parse", "--show-toplevel"))
	archive := exec.Command("git", "-C", root, "archive", revision)
	extract := exec.Command("tar", "-x", "-C", dir)
	text, err := archive.Output()
	if err != nil {
		t.Fatalf("git archive %s: %v", revision, err)
	}
	extract.Stdin = bytes.NewReader(text)
	if out, err := extract.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	program = filepath.Join(dir, "cairn-old")
	if err := testkit.Build(dir, program, "."); err != nil {
		t.Fatal(err)
	}
	return program
}

// An upgrade is what was written to the old version.
type upgrade struct {
	t       *testing.T
	base    string
	changes bool     // the old version can replace and delete
	deleted []string // ids
	single  []string // bodies
}

// fill writes points one by one and in bulk, and changes some where that is possible.
func (u *upgrade) fill() {
	u.t.Helper()
	for n := range upgradeSingle {
		point := fmt.Sprintf(`{"id":"single %d","longitude":%d.5,"latitude":48.25,"altitude":%d,"name":"café %d","properties":{"n":%d.50,"when":{"a":[1,null,"x"]}}}`, n, n, n, n, n)
		u.single = append(u.single, point)
		testrig.MustPost(u.t, u.base+"/point", point)
	}
	testrig.MustPost(u.t, u.base+"/point", strings.Replace(u.single[0], "café", "conflict", 1)) // is parked
	u.send(http.MethodPost, "/point", "application/x-ndjson", rowsOf(0, upgradeRows), http.StatusOK, http.StatusAccepted)
	testkit.Eventually(u.t, testrig.Patience, "the rows are there", func() bool {
		a, err := testrig.Get(u.t.Context(), u.base+fmt.Sprintf("/points/row-%d", upgradeRows-1))
		return err == nil && a.Status == http.StatusOK
	})
	a, err := testrig.Do(u.t.Context(), http.MethodPut, u.base+"/point/row-0", "application/json", strings.NewReader(changedRow(0)))
	if u.changes = err == nil && a.Status < http.StatusBadRequest; !u.changes {
		u.t.Logf("this version changes no points: %d %s, %v", a.Status, a.Body, err)
		return
	}
	for n := range upgradeChanged {
		u.send(http.MethodPut, fmt.Sprintf("/point/row-%d", n*7), "application/json", []byte(changedRow(n*7)), http.StatusAccepted)
		id := fmt.Sprintf("row-%d", n*7+3)
		u.send(http.MethodDelete, "/point/"+id, "", nil, http.StatusAccepted)
		u.deleted = append(u.deleted, id)
	}
}

// rowsOf are lines of NDJSON.
func rowsOf(from, to int) []byte {
	var b bytes.Buffer
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, `{"id":"row-%d","longitude":%.4f,"latitude":%.4f,"time":"2026-01-02T03:04:%02d.5Z","name":"r%d","properties":{"value":%d.250}}`+"\n",
			n, float64(n%3600)/10-180, float64(n%1700)/10-85, n%60, n%50, n)
	}
	return b.Bytes()
}

func changedRow(n int) string {
	return fmt.Sprintf(`{"longitude":10.%d,"latitude":50,"name":"changed","properties":{"was":%d}}`, n, n)
}

func (u *upgrade) send(method, path, media string, body []byte, want ...int) {
	u.t.Helper()
	a, err := testrig.Do(u.t.Context(), method, u.base+path, media, bytes.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	for _, status := range want {
		if a.Status == status {
			return
		}
	}
	u.t.Fatalf("%s %s: %d %s", method, path, a.Status, a.Body)
}

// compare compares every point with what the old version served.
func (u *upgrade) compare(before []testrig.Feature, when string) {
	u.t.Helper()
	now := testrig.AllPoints(u.t, u.base)
	if len(now) != len(before) {
		u.t.Errorf("%s: there are %d points, %d were", when, len(now), len(before))
	}
	differences := 0
	for i := range min(len(before), len(now)) {
		old := before[i]
		if old.Revision == 0 { // it had none
			old.Revision = now[i].Revision
		}
		if !reflect.DeepEqual(old, now[i]) {
			if differences++; differences <= 10 {
				u.t.Errorf("%s: %+v was %+v", when, now[i], old)
			}
		}
	}
	for _, id := range u.deleted {
		a, err := testrig.Get(u.t.Context(), u.base+"/points/"+id)
		if err != nil || a.Status != http.StatusGone {
			u.t.Errorf("%s: GET of %s, which was deleted: %d %s, %v", when, id, a.Status, a.Body, err)
		}
	}
}

// retry sends again what the old version has acknowledged.
func (u *upgrade) retry() {
	u.t.Helper()
	for _, point := range u.single {
		testrig.MustPost(u.t, u.base+"/point", point)
	}
	const first, last = 10 * upgradeChanged, 12 * upgradeChanged // none of them was changed
	u.send(http.MethodPost, "/point", "application/x-ndjson", rowsOf(first, last), http.StatusOK, http.StatusAccepted)
	u.settle()
}

func (u *upgrade) settle() {
	_, one := testrig.MustPost(u.t, u.base+"/point", u.single[1])
	testkit.Eventually(u.t, testrig.Patience, "the retries are applied", func() bool {
		a, err := testrig.Get(context.Background(), fmt.Sprintf("%s/points?limit=1&min_position=%d", u.base, one.Position))
		return err == nil && a.Status == http.StatusOK
	})
}
