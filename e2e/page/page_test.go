package page

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

var cairnProgram string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cairn-page-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	cairnProgram = filepath.Join(dir, "cairn")
	if err := testkit.Build("../..", cairnProgram, "."); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		return 1
	}
	return testkit.Run(m)
}

// patience is how long a test waits for the browser, which draws by software.
const patience = 60 * time.Second

// A tab is a page in a browser.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // the tab's life
}

// browse opens a tab of the size, light or dark.
func browse(t *testing.T, url string, width, height int, dark bool) *tab {
	t.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: make e2e-page installs it")
	}
	flags := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.WindowSize(width, height),
		chromedp.Flag("use-gl", "angle"), chromedp.Flag("use-angle", "swiftshader"), chromedp.Flag("enable-unsafe-swiftshader", true),
		chromedp.Flag("ignore-gpu-blocklist", true), chromedp.Flag("disable-gpu", false), chromedp.Flag("force-dark-mode", dark),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true))
	allocated, cancel := chromedp.NewExecAllocator(context.Background(), flags...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(cancel)
	tab := &tab{t, ctx}
	tab.do(chromedp.Navigate(url))
	tab.until(`document.body.dataset.ready === 'yes' && Number(document.body.dataset.idle) > 0`)
	return tab
}

func (b *tab) do(actions ...chromedp.Action) {
	b.t.Helper()
	done := make(chan error, 1)
	go func() { done <- chromedp.Run(b.ctx, actions...) }()
	select {
	case err := <-done:
		if err != nil {
			b.t.Fatal(err)
		}
	case <-time.After(patience):
		b.t.Fatal("the browser does not answer")
	}
}

// eval is the value of an expression.
func eval[T any](b *tab, expression string) (value T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(expression, &value))
	return value
}

// until waits for an expression to be true.
func (b *tab) until(expression string) {
	b.t.Helper()
	testkit.Eventually(b.t, patience, expression, func() bool { return eval[bool](b, expression) })
}

// drawn is how many Features the layers show.
const drawn = `window.cairnMap.queryRenderedFeatures({layers: ['clusters', 'dots', 'fresh']}).length`

func start(t *testing.T) *testrig.Server {
	t.Helper()
	return testrig.Command{Program: cairnProgram, Args: []string{"serve", "--data", testrig.DataFolder(t), "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort}}.Serve(t)
}

func post(t *testing.T, s *testrig.Server, point string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Base+"/point", strings.NewReader(point))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Prefer", "wait=20")
	a, err := testrig.Send(r)
	if err != nil || a.Status != http.StatusCreated {
		t.Fatalf("%d %s %v", a.Status, a.Body, err)
	}
}

// What is there is drawn; what comes is drawn without a reload; the card of a point
// shows what it has; the view is in the URL.
func TestPointsOnTheMap(t *testing.T) {
	s := start(t)
	post(t, s, `{"id":"paris","longitude":2.35,"latitude":48.85,"name":"Paris","properties":{"mag":4.5}}`)
	b := browse(t, s.Base+"/?point=paris#map=5/48/3", 1200, 800, false)
	b.until(drawn + ` === 1`)
	b.until(`document.getElementById('live').textContent === 'live'`)
	b.until(`document.getElementById('p-title').textContent === 'Paris'`)
	if card := eval[string](b, `document.getElementById('p-rows').innerText`); !strings.Contains(card, "4.5") || !strings.Contains(card, "revision") {
		t.Errorf("the card shows %q", card)
	}
	post(t, s, `{"id":"bern","longitude":7.44,"latitude":46.95,"name":"Bern"}`)
	b.until(drawn + ` >= 2`)
	b.until(`document.getElementById('count').textContent.startsWith('2 points')`)

	b.do(chromedp.Evaluate(`document.getElementById('f-name').value = 'Bern'; document.getElementById('filter').requestSubmit()`, nil))
	b.until(`location.search.includes('name=Bern')`)
	b.until(`document.getElementById('count').textContent.startsWith('1 points')`)
	b.until(drawn + ` === 1`)
}

// A file that is dropped is loaded, with its rejected rows; a point is deleted on
// its card.
func TestEditing(t *testing.T) {
	s := start(t)
	b := browse(t, s.Base+"/", 1200, 800, true)
	file := filepath.Join(t.TempDir(), "places.csv")
	if err := os.WriteFile(file, []byte("name,lat,lon\nRome,41.9,12.5\nNowhere,99,12\nOslo,59.9,10.75\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.SetUploadFiles(`#file`, []string{file}, chromedp.ByQuery))
	b.until(`document.getElementById('uploads').innerText.includes('2 accepted')`)
	if told := eval[string](b, `document.getElementById('uploads').innerText`); !strings.Contains(told, "row 2") || !strings.Contains(told, "latitude") {
		t.Errorf("the rejected row is told as %q", told)
	}
	b.until(drawn + ` >= 2`)
	b.do(chromedp.Evaluate(`document.getElementById('list').open = true`, nil))
	b.until(`[...document.querySelectorAll('#rows button')].some((x) => x.textContent.startsWith('Rome'))`)
	b.do(chromedp.Evaluate(`[...document.querySelectorAll('#rows button')].find((x) => x.textContent.startsWith('Rome')).click()`, nil))
	b.until(`document.getElementById('p-title').textContent === 'Rome'`)
	b.do(chromedp.Evaluate(`window.confirm = () => true; document.getElementById('p-delete').click()`, nil))
	b.until(`document.getElementById('point').hidden`)
	b.until(`document.getElementById('count').textContent.startsWith('1 points')`)
}

// Every control has a name that a screen reader can say, also on a phone, and the
// text stands out from its ground in both themes.
func TestAccessible(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		name          string
		width, height int
	}{{"desk", 1200, 800}, {"phone", 390, 800}} {
		t.Run(c.name, func(t *testing.T) {
			b := browse(t, s.Base+"/", c.width, c.height, false)
			nameless := eval[[]string](b, `[...document.querySelectorAll('button, input, a, textarea, summary')].filter((x) =>
				!(x.textContent.trim() || x.getAttribute('aria-label') || x.title || x.labels?.length || x.placeholder)).map((x) => x.outerHTML)`)
			if len(nameless) > 0 {
				t.Errorf("without a name: %v", nameless)
			}
			for _, theme := range []string{"light", "dark"} {
				b.do(chromedp.Evaluate(`document.documentElement.dataset.theme = '`+theme+`'`, nil))
				if ratio := eval[float64](b, contrast); ratio < 4.5 { // WCAG 2.2, 1.4.3
					t.Errorf("%s: the faintest text has a contrast of %.1f", theme, ratio)
				}
			}
			if eval[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
				t.Error("the page is wider than the screen")
			}
		})
	}
}

// contrast is the least contrast of text on the panel's ground.
const contrast = `(() => {
	const light = (c) => { const [r, g, b] = c.match(/[\d.]+/g).map(Number).map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const ground = light(getComputedStyle(document.getElementById('panel')).backgroundColor);
	return Math.min(...[...document.querySelectorAll('#panel h1, #panel label, #panel p, #panel a, #panel summary, #live')].map((x) => {
		const ink = light(getComputedStyle(x).color);
		return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
	}));
})()`
