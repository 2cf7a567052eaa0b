package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"cairn/event"
	"cairn/internal/corpus"
	"cairn/internal/testrig"
)

// drop drops a file on the page, as a browser does it, and gives what it says when
// the answer is there.
const drop = `(async (name, body) => {
	const bytes = Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
	const data = new DataTransfer();
	data.items.add(new File([bytes], name));
	const before = document.getElementById('uploads').childElementCount;
	document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
	const until = performance.now() + 40000;
	for (;;) {
		const box = document.getElementById('uploads').firstElementChild;
		if (document.getElementById('uploads').childElementCount > before && !box.querySelector('progress')) return box.innerText;
		if (performance.now() > until) return 'the page says nothing';
		await new Promise((next) => setTimeout(next, 5));
	}
})`

// What people send, dropped on the page. It sends a file by its name alone: cases
// that need a parameter or a Content-Type are of the other ways in.
func TestCorpusDropped(t *testing.T) {
	s := start(t)
	b := browse(t, s.Base+"/", 1200, 800, false)
	ran := 0
	for _, c := range corpus.Read(t, "../../ingest/testdata/corpus") {
		if c.Query != "" || strings.Contains(c.Type, "charset") || c.Type != corpus.TypeOf(c.File) {
			continue
		}
		ran++
		t.Run(c.File, func(t *testing.T) {
			body, err := json.Marshal(c.Body) // in base 64
			if err != nil {
				t.Fatal(err)
			}
			before := sequence(t, s)
			var said string
			tab := &tab{t, b.ctx}
			tab.do(chromedp.Evaluate(fmt.Sprintf("%s(%q, %s)", drop, c.File, body), &said, awaitPromise))
			got := corpus.Outcome{Text: said, Warned: strings.Contains(said, "warning")}
			_, counts, _ := strings.Cut(strings.SplitN(said, "\n", 2)[0], ": ")
			if strings.Contains(counts, " accepted") && !strings.Contains(counts, "(") {
				got.Status = http.StatusAccepted
			}
			for _, one := range strings.Split(counts, ", ") {
				n, of, _ := strings.Cut(one, " ")
				count, _ := strconv.ParseInt(n, 10, 64)
				switch of {
				case "accepted":
					got.Accepted = count
				case "rejected":
					got.Rejected = count
				}
			}
			if got.Status != 0 {
				got.First = first(t, s, got.Accepted, before)
			}
			if refused, ok := strings.CutPrefix(c.Want, "refused "); ok {
				_, text, _ := strings.Cut(refused, " ")
				c.Want = "refused 0 " + text
			}
			c.Check(t, got)
		})
	}
	if ran < 150 {
		t.Errorf("%d cases", ran)
	}
}

// awaitPromise makes the browser wait for what the script promises.
func awaitPromise(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }

// sequence is the stream's last message that is projected.
func sequence(t *testing.T, s *testrig.Server) event.Position {
	t.Helper()
	var status struct {
		Projector struct {
			Position event.Position `json:"position"`
		} `json:"projector"`
	}
	get(t, s.Base+"/status", &status)
	return status.Projector.Position
}

// first is the first point of the newest n, or of those of the upload that were there
// before under their ids.
func first(t *testing.T, s *testrig.Server, n int64, before event.Position) *event.Point {
	t.Helper()
	var page struct {
		Features []json.RawMessage `json:"features"`
	}
	get(t, fmt.Sprintf("%s/points?limit=%d&min_position=%d", s.Base, n, before+1), &page)
	if int64(len(page.Features)) != n {
		t.Fatalf("%d of %d points", len(page.Features), n)
	}
	var d event.Decoder
	var p event.Point
	if err := d.Feature(page.Features[n-1], &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := testrig.Send(r)
	if err == nil {
		err = json.Unmarshal(a.Body, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}
