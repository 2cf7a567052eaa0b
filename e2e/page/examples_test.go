package page

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// The example's page, from another origin, draws what is there, tells of what comes, and
// shows a point's properties.
func TestExampleMap(t *testing.T) {
	s := start(t)
	post(t, s, `{"id":"one","longitude":8,"latitude":47,"name":"Zug","properties":{"kind":"town"}}`)
	files := httptest.NewServer(http.FileServer(http.Dir("../../examples")))
	t.Cleanup(files.Close)
	b := launch(t, 800, 600, false)
	b.do(chromedp.Navigate(files.URL + "/map.html?server=" + url.QueryEscape(s.Base)))
	b.until(`document.body.dataset.drawn === '1'`)
	post(t, s, `{"id":"two","longitude":20,"latitude":47,"name":"Szolnok"}`)
	b.until(`document.getElementById('told').textContent === 'Szolnok came in'`)
	b.until(`document.body.dataset.drawn === '2'`)
	size := eval[[]float64](b, `[document.body.clientWidth, document.body.clientHeight]`)
	b.do(chromedp.MouseClickXY(size[0]/2, size[1]/2)) // the middle of the map, where it began
	b.until(`Boolean(document.querySelector('.maplibregl-popup')?.textContent.includes('"kind":"town"'))`)
}

// The example in Node tells of what is there, of what comes and of what goes.
func TestExampleInNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is missing: make e2e-page installs it, with npm")
	}
	s := start(t)
	post(t, s, `{"id":"one","longitude":8,"latitude":47,"name":"Zug"}`)
	c := exec.CommandContext(t.Context(), node, "../../examples/live.mjs", s.Base, "since=0", "bbox=0,40,10,50") //nolint:gosec // ours
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("it tells %q, want %q (%v)", lines.Text(), want, lines.Err())
		}
	}
	next("+ one 8 47 Zug")
	post(t, s, `{"id":"far","longitude":80,"latitude":47}`) // not in the box
	post(t, s, `{"id":"two","longitude":9,"latitude":47,"name":"Uri"}`)
	next("+ two 9 47 Uri")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.Base+"/point/one", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, a.Body)
	_ = a.Body.Close()
	next("- one")
	_ = c.Process.Kill()
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("it ended by itself: %v", err)
	}
}
