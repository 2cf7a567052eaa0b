package page

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// axe checks a page against WCAG 2.2, A and AA, and its own best practices.
const axe = "node_modules/axe-core/axe.min.js"

const runAxe = `axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})
	.then((r) => JSON.stringify(r.violations.map((v) => v.id + ': ' + v.help + ': ' + v.nodes.map((n) => n.html.slice(0, 120) + ' ' + (n.any[0]?.message || '')).join(' | '))))`

// The page has no fault that axe finds, and fits the screen: on a desk and a phone, in
// light and dark, with everything open, and with nothing there.
func TestAccessible(t *testing.T) {
	script, err := os.ReadFile(axe)
	if err != nil {
		t.Fatal("axe-core is missing: make e2e-page fetches it")
	}
	s := start(t)
	post(t, s, `{"id":"a","longitude":10,"latitude":25,"name":"A","properties":{"a long name of a property":"and its value","n":1}}`)
	for _, c := range []struct {
		name          string
		width, height int
		query         string
	}{{"desk", 1440, 900, "?point=a"}, {"phone", 390, 844, "?point=a"}, {"phone without", 390, 844, "?name=nobody"},
		{"phone with a track", 390, 844, "?view=devices&device=A"}} {
		t.Run(c.name, func(t *testing.T) {
			b := browse(t, s.Base+"/"+c.query, c.width, c.height, false)
			b.do(chromedp.Evaluate(string(script), nil))
			for _, theme := range []string{"light", "dark"} {
				for _, open := range []string{"list", "edit", "save", "editor"} {
					b.do(chromedp.Evaluate(`document.documentElement.dataset.theme = '`+theme+`';
						document.getElementById('tools').hidden = false;
						for (const d of document.querySelectorAll('details')) d.open = d.id === '`+open+`';
						document.getElementById('editor').close();
						if ('`+open+`' === 'editor') document.getElementById('editor').showModal();`, nil))
					var found []string
					if err := json.Unmarshal([]byte(await[string](b, runAxe)), &found); err != nil {
						t.Fatal(err)
					}
					for _, f := range found {
						t.Errorf("%s, %s open: %s", theme, open, f)
					}
					if eval[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
						t.Errorf("%s, %s open: the page is wider than the screen", theme, open)
					}
				}
			}
		})
	}
}

// await is the value of a promise.
func await[T any](b *tab, expression string) (value T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(expression, &value, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	return value
}

// All of it can be done by keyboard: from the first key on to the list, a point's
// card, its editor, and back.
func TestKeyboard(t *testing.T) {
	s := start(t)
	post(t, s, `{"id":"a","longitude":10,"latitude":25,"name":"A"}`)
	b := browse(t, s.Base+"/", 1200, 800, false)
	press := func(key string) {
		t.Helper()
		b.do(chromedp.KeyEvent(key))
	}
	tabTo := func(id string) {
		t.Helper()
		for range 60 {
			press("\t")
			if eval[string](b, `document.activeElement.id`) == id {
				return
			}
			if eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`) == "none" && eval[bool](b, `!document.activeElement.matches('.maplibregl-canvas, body, input.sr')`) {
				t.Errorf("the focus on %s cannot be seen", eval[string](b, `document.activeElement.outerHTML.slice(0, 100)`))
			}
		}
		t.Fatalf("%s cannot be reached by the keyboard", id)
	}
	press("\t")
	if at := eval[string](b, `document.activeElement.className`); at != "skip" {
		t.Errorf("the first key goes to %q", at)
	}
	press("\r")
	b.until(`document.activeElement.id === 'rows' && document.getElementById('rows').children.length === 1`)
	press("\t")
	press("\r")
	b.until(`document.activeElement.id === 'p-title'`)
	tabTo("p-edit")
	press("\r")
	b.until(`document.getElementById('editor').open`)
	b.do(input.DispatchKeyEvent(input.KeyDown).WithKey("Escape").WithCode("Escape").WithWindowsVirtualKeyCode(27))
	b.until(`!document.getElementById('editor').open && !document.getElementById('point').hidden`)
	b.until(fmt.Sprintf(`document.activeElement.id === %q`, "p-edit"))
	b.do(input.DispatchKeyEvent(input.KeyDown).WithKey("Escape").WithCode("Escape").WithWindowsVirtualKeyCode(27))
	b.until(`document.getElementById('point').hidden`)
}
