package page

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

var cairnProgram string

func TestMain(m *testing.M) {
	os.Exit(testkit.RunBuilt(m, "page", testkit.BuildCairn("../..", &cairnProgram)))
}

// patience is how long a test waits for the browser, which draws by software.
const patience = 60 * time.Second

// A tab is a page in a browser.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // the tab's life
}

// browse opens the page in a new browser of the size, light or dark.
func browse(t *testing.T, url string, width, height int, dark bool) *tab {
	t.Helper()
	b := launch(t, width, height, dark)
	b.open(url)
	return b
}

func launch(t *testing.T, width, height int, dark bool) *tab {
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
	if width < 640 {
		tab.do(emulation.SetDeviceMetricsOverride(int64(width), int64(height), 1, true))
	}
	return tab
}

// open goes to the page and waits until it has drawn. Whatever its policy refuses, and
// whatever goes wrong in it unseen, fails the test.
func (b *tab) open(url string) {
	b.t.Helper()
	chromedp.ListenTarget(b.ctx, func(e any) {
		switch e := e.(type) {
		case *log.EventEntryAdded:
			if e.Entry.Source == log.SourceSecurity || strings.Contains(e.Entry.Text, "Content Security Policy") {
				b.t.Errorf("the browser refuses: %s", e.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			b.t.Errorf("the page fails: %s", e.ExceptionDetails.Error())
		}
	})
	b.do(log.Enable(), chromedp.Navigate(url))
	b.until(idle)
}

const idle = `document.body.dataset.ready === 'yes' && Number(document.body.dataset.idle) > 0`

// another opens a tab in the same browser.
func (b *tab) another(url string) *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	tab := &tab{b.t, ctx}
	tab.open(url)
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

func start(t *testing.T, args ...string) *testrig.Server {
	t.Helper()
	args = append([]string{"serve", "--data", testrig.DataFolder(t), "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort}, args...)
	return testrig.Command{Program: cairnProgram, Args: args}.Serve(t)
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
	if card := eval[string](b, `document.getElementById('point').innerText`); !strings.Contains(card, "4.5") || !strings.Contains(card, "revision") {
		t.Errorf("the card shows %q", card)
	}
	post(t, s, `{"id":"bern","longitude":7.44,"latitude":46.95,"name":"Bern"}`)
	b.until(drawn + ` >= 2`)
	b.until(`document.getElementById('count').textContent.startsWith('2 points')`)

	b.do(chromedp.Evaluate(`document.getElementById('f-name').value = 'Bern'; document.getElementById('filter').requestSubmit()`, nil))
	b.until(`location.search.includes('name=Bern')`)
	b.until(`document.getElementById('count').textContent.startsWith('1 point in view')`)
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
	b.click("p-delete")
	b.until(`document.getElementById('point').hidden`)
	b.until(`document.getElementById('count').textContent.startsWith('1 point in view')`)
	b.click("t-do") // undo
	b.until(`document.getElementById('p-title').textContent === 'Rome'`)
	b.until(`document.getElementById('count').textContent.startsWith('2 points')`)

	b.click("p-edit")
	b.do(chromedp.Evaluate(`document.getElementById('e-name').value = 'Roma'; document.getElementById('e-props').value = '{"n": 1}'`, nil))
	b.click("e-save")
	b.until(`document.getElementById('p-title').textContent === 'Roma' && document.getElementById('p-rows').innerText.includes('n\t1')`)
	b.click("t-do")
	b.until(`document.getElementById('p-title').textContent === 'Rome' && !document.getElementById('p-rows').innerText.includes('n\t1')`)

	// Moved by a click on the map, put back; a new one by a click too.
	b.do(chromedp.Evaluate(`void cairnMap.jumpTo({center: [12.5, 41.9], zoom: 9})`, nil))
	b.click("p-move")
	b.do(chromedp.MouseClickXY(700, 400))
	b.until(`!document.getElementById('p-own').innerText.includes('41.9\n')`)
	b.click("t-do")
	b.until(`document.getElementById('p-own').innerText.includes('41.9\n')`)
	b.do(chromedp.Evaluate(`document.getElementById('edit').open = true`, nil))
	b.click("add")
	b.do(chromedp.MouseClickXY(650, 350))
	b.until(`document.getElementById('editor').open`)
	b.do(chromedp.Evaluate(`document.getElementById('e-name').value = 'New'; document.getElementById('e-props').value = 'no JSON'`, nil))
	b.click("e-save")
	b.until(`document.getElementById('e-error').textContent.includes('JSON')`)
	b.do(chromedp.Evaluate(`document.getElementById('e-props').value = ''`, nil))
	b.click("e-save")
	b.until(`document.getElementById('p-title').textContent === 'New'`)
}

func (b *tab) click(id string) {
	b.t.Helper()
	b.until(`!document.getElementById('` + id + `').closest('[hidden]')`)
	b.do(chromedp.Evaluate(`document.getElementById('`+id+`').click()`, nil))
}

// An empty Cairn says what to do; the slider shows a span of time.
func TestEmptyAndTime(t *testing.T) {
	s := start(t)
	b := browse(t, s.Base+"/", 1200, 800, false)
	b.until(`document.getElementById('empty').textContent.startsWith('There are no points yet')`)
	post(t, s, `{"id":"old","longitude":2,"latitude":48,"time":"2020-01-01T00:00:00Z"}`)
	post(t, s, `{"id":"new","longitude":3,"latitude":48,"time":"2026-01-01T00:00:00Z"}`)
	b.open(s.Base + "/?reload")
	b.until(`document.getElementById('count').textContent.startsWith('2 points')`)
	b.until(`!document.getElementById('slide').hidden`)
	slide := func(value, want string) {
		t.Helper()
		b.do(chromedp.Evaluate(`document.getElementById('span').value = String(365 * 24 * 3600e3);
			document.getElementById('slider').value = `+value+`; document.getElementById('slider').dispatchEvent(new Event('input'))`, nil))
		b.until(`document.getElementById('count').textContent.startsWith('` + want + `')`)
	}
	slide("0", "1 point in view")
	slide("500", "0 points")
	b.until(`document.getElementById('empty').textContent.startsWith('Nothing here passes the filter')`)
	slide("1000", "1 point in view")
	if search := eval[string](b, `location.search`); !strings.Contains(search, "datetime=2025") {
		t.Errorf("the link has %s", search)
	}
}

// More tabs than a browser opens connections to a host are all live.
func TestManyTabs(t *testing.T) {
	s := start(t)
	tabs := []*tab{browse(t, s.Base+"/", 1200, 800, false)}
	for len(tabs) < 7 {
		tabs = append(tabs, tabs[0].another(s.Base+"/"))
	}
	post(t, s, `{"id":"a","longitude":2,"latitude":48,"name":"A"}`)
	for i, b := range tabs {
		b.until(`cairnMap.querySourceFeatures('fresh').length > 0 || document.getElementById('count').textContent.startsWith('1 point')`)
		if i == len(tabs)-1 {
			b.until(`document.getElementById('count').textContent.startsWith('1 point')`)
		}
	}
}
