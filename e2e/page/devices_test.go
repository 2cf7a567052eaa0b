package page

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"cairn/internal/testrig"
)

// shown are the devices that are drawn, as name and image, in order.
const shown = `[...new Set(cairnMap.queryRenderedFeatures({layers: ['devices']}).map((f) => f.properties.name + (f.properties.heading === undefined ? ' dot' : ' ' + f.properties.heading)))].sort().join(', ')`

// fix sends one position of a device.
func fix(t *testing.T, s *testrig.Server, name string, at time.Time, longitude float64, properties string) {
	t.Helper()
	post(t, s, fmt.Sprintf(`{"type":"Feature","geometry":{"type":"Point","coordinates":[%g,47]},"time":%q,"properties":{"name":%q%s}}`,
		longitude, at.Format(time.RFC3339), name, properties))
}

// Where each device is, whither it goes, and where it goes next, without a reload; a
// click on one opens its card with its track.
func TestDevicesOnTheMap(t *testing.T) {
	s := start(t)
	now := time.Now().UTC().Truncate(time.Second)
	fix(t, s, "van", now.Add(-2*time.Minute), 8, `,"course":45`)
	fix(t, s, "van", now.Add(-time.Minute), 8.1, `,"course":90`)
	fix(t, s, "phone", now, 8.5, `,"cog":-1`)
	fix(t, s, "sensor", now.Add(-time.Hour), 9, `,"t":4`)
	post(t, s, `{"longitude":8.3,"latitude":47.1}`) // of no device
	b := browse(t, s.Base+"/?view=devices#map=8/47/8.5", 1200, 800, false)
	b.until(shown + ` === 'phone dot, sensor dot, van 90'`)
	b.until(`document.getElementById('count').textContent === '3 of 3 devices in view'`)
	if n := eval[int](b, `cairnMap.queryRenderedFeatures({layers: ['clusters', 'dots', 'fresh']}).length`); n != 0 {
		t.Errorf("%d points are drawn among the devices", n)
	}
	b.until(`document.getElementById('live').textContent === 'live'`)
	fix(t, s, "van", now, 8.2, `,"course":180`)
	b.until(shown + ` === 'phone dot, sensor dot, van 180'`)
	fix(t, s, "van", now.Add(-90*time.Second), 8.05, `,"course":1`) // late: it does not move back
	fix(t, s, "bus", now, 8.7, `,"heading":270.5`)
	b.until(shown + ` === 'bus 270.5, phone dot, sensor dot, van 180'`)

	at := eval[[]float64](b, `(() => { const p = cairnMap.project([8.2, 47]); return [p.x, p.y]; })()`)
	b.do(chromedp.MouseClickXY(at[0], at[1]))
	b.until(`document.getElementById('p-title').textContent === 'van' && !document.getElementById('track').hidden`)
	b.until(`document.getElementById('k-count').textContent === 'fix 4 of 4'`)
	b.until(`cairnMap.queryRenderedFeatures({layers: ['track']}).length > 0`)
	fix(t, s, "van", now.Add(time.Minute), 8.3, `,"course":200`)
	b.until(`document.getElementById('k-count').textContent === 'fix 5 of 5' && document.getElementById('p-rows').innerText.includes('200')`)
	if search := eval[string](b, `location.search`); search != "?view=devices&device=van" {
		t.Errorf("the link has %s", search)
	}

	b.click("p-close")
	b.until(`cairnMap.queryRenderedFeatures({layers: ['track', 'tail']}).length === 0 && location.search === '?view=devices'`)
	b.do(chromedp.Evaluate(`document.getElementById('f-key').value = 'course'; document.getElementById('f-value').value = '0..360'; document.getElementById('filter').requestSubmit()`, nil))
	b.until(shown + ` === 'van 200'`)
	b.until(`document.getElementById('live').textContent === 'live'`)
	fix(t, s, "van", now.Add(2*time.Minute), 8.4, ``) // it passes no longer
	b.until(shown + ` === ''`)
	b.until(`document.getElementById('empty').textContent === 'No device passes the filter.'`)
	b.do(chromedp.Evaluate(`document.querySelector('#views input[value=points]').click()`, nil))
	b.click("clear")
	b.until(drawn + ` > 1 && ` + shown + ` === ''`)

	// What is deleted on the card gives its place to what was newest before.
	b.do(chromedp.Evaluate(`document.querySelector('#views input[value=devices]').click(); document.getElementById('list').open = true`, nil))
	b.until(shown + ` === 'bus 270.5, phone dot, sensor dot, van dot'`)
	b.until(`document.querySelectorAll('#rows button').length === 4`)
	b.until(`document.getElementById('live').textContent === 'live'`)
	for _, then := range []string{"van 200", "van 180"} {
		b.do(chromedp.Evaluate(`document.querySelector('#rows li:last-child button').click()`, nil))
		b.until(`document.getElementById('p-title').textContent === 'van'`)
		b.click("p-delete")
		b.until(shown + ` === 'bus 270.5, phone dot, sensor dot, ` + then + `'`)
	}
	b.do(chromedp.Evaluate(`document.querySelector('#rows button').click()`, nil))
	b.until(`document.getElementById('p-title').textContent === 'bus'`)
	b.click("p-delete")
	b.until(shown + ` === 'phone dot, sensor dot, van 180' && document.querySelectorAll('#rows button').length === 3`)
}

// thereAt is the longitude of the player's mark; NaN where there is none.
const thereAt = `(cairnMap.queryRenderedFeatures({layers: ['there']})[0]?.geometry.coordinates[0] ?? NaN)`

// The slider goes along the track, by pointer and by key, the player plays it to its
// end, and a link leads to the same time.
func TestTrackIsPlayed(t *testing.T) {
	s := start(t)
	from := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for i := range 5 {
		fix(t, s, "van/7", from.Add(time.Duration(i)*10*time.Minute), 8+float64(i)/10, ``)
	}
	fix(t, s, "van/7", from.Add(3*time.Hour), 9, ``)             // after a pause
	fix(t, s, "van/7", from.Add(-40*24*time.Hour), 7, ``)        // not in the last day
	fix(t, s, "van/7", from.Add(3*time.Hour+time.Hour), 9.1, ``) // the end
	b := browse(t, s.Base+"/?view=devices&device=van%2F7", 1200, 800, false)
	b.until(`document.getElementById('k-count').textContent === 'fix 7 of 7'`)
	b.until(`cairnMap.queryRenderedFeatures({layers: ['track']}).length > 0`)
	go15 := `document.getElementById('k-time').value = ` + fmt.Sprint(from.Add(15*time.Minute).UnixMilli()) + `;
		document.getElementById('k-time').dispatchEvent(new Event('input')); document.getElementById('k-time').dispatchEvent(new Event('change'))`
	b.do(chromedp.Evaluate(go15+"; 0", nil))
	b.until(`Math.abs(` + thereAt + ` - 8.15) < 0.002`)
	if note := eval[string](b, `document.getElementById('k-note').textContent`); !strings.Contains(note, "46 km/h") && !strings.Contains(note, "45 km/h") {
		t.Errorf("a tenth of a degree in ten minutes: %s", note)
	}
	if search := eval[string](b, `location.search`); !strings.Contains(search, "at=2026-06-01T12%3A15") {
		t.Errorf("the link has %s", search)
	}
	b.open(eval[string](b, `location.href`))
	b.until(`document.getElementById('k-count').textContent === 'fix 2 of 7'`)
	b.until(`Math.abs(` + thereAt + ` - 8.15) < 0.002`)

	b.do(chromedp.Focus(`#k-time`, chromedp.ByQuery), chromedp.KeyEvent("\u0302")) // the arrow to the right
	b.until(thereAt + ` > 8.1501`)
	if text := eval[string](b, `document.getElementById('k-time').getAttribute('aria-valuetext')`); !strings.Contains(text, "2026") {
		t.Errorf("a screen reader says %q", text)
	}
	// In the pause it stands where it was last.
	b.do(chromedp.Evaluate(strings.Replace(go15, fmt.Sprint(from.Add(15*time.Minute).UnixMilli()), fmt.Sprint(from.Add(2*time.Hour).UnixMilli()), 1)+"; 0", nil))
	b.until(`Math.abs(` + thereAt + ` - 8.4) < 0.002`)

	b.do(chromedp.Evaluate(`document.getElementById('k-speed').value = '3600'; 0`, nil))
	b.click("k-play")
	b.until(`document.getElementById('k-play').textContent === 'Pause'`)
	b.until(`document.getElementById('k-count').textContent === 'fix 7 of 7' && document.getElementById('k-play').textContent === 'Play'`)
	b.do(chromedp.Evaluate(`document.getElementById('k-span').value = 'any'; document.getElementById('k-span').dispatchEvent(new Event('change')); 0`, nil))
	b.until(`document.getElementById('k-count').textContent === 'fix 8 of 8' && location.search.includes('span=any')`)

	// Who wants no motion sees each fix, and none of the way between.
	for i := range 3 {
		fix(t, s, "van", from.Add(time.Duration(i)*time.Minute), 8+float64(i)/10, ``)
	}
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(cancel)
	b = &tab{t, ctx}
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}}))
	b.open(s.Base + "/?view=devices&device=van&at=2026-06-01T12:00:30Z#map=9/47/8.1")
	b.until(`document.getElementById('k-count').textContent === 'fix 1 of 3'`)
	b.until(`Math.abs(` + thereAt + ` - 8) < 0.002`)
	b.do(chromedp.Evaluate(`document.getElementById('k-speed').value = '10'; window.seen = new Set();
		cairnMap.on('render', () => { const x = `+thereAt+`; if (x) seen.add(Math.round(x * 100)); }); 0`, nil))
	b.click("k-play")
	b.until(`document.getElementById('k-play').textContent === 'Play'`)
	for _, x := range eval[[]float64](b, `[...seen]`) {
		if math.Mod(x, 10) != 0 {
			t.Errorf("the mark was at %g, where no fix is", x/100)
		}
	}
}

// Thousands of devices come in a few requests, are drawn by the map itself, and can be
// found by a part of their names.
func TestManyDevices(t *testing.T) {
	s := start(t)
	const n = 2000
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"longitude":%g,"latitude":%g,"name":"unit-%04d"}`+"\n", float64(i%100)*0.1, float64(i/100)*0.25, i)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Base+"/point", strings.NewReader(lines.String()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("Prefer", "wait=30")
	if a, err := testrig.Send(r); err != nil || a.Status != http.StatusOK {
		t.Fatalf("%d %s %v", a.Status, a.Body, err)
	}
	b := browse(t, s.Base+"/?view=devices#map=4/2.5/5", 390, 844, false)
	b.until(`document.getElementById('count').textContent.endsWith(' of 2,000 devices in view')`)
	b.until(`cairnMap.queryRenderedFeatures({layers: ['devices']}).length > 500`)
	if elements := eval[int](b, `document.getElementsByTagName('*').length`); elements > 600 {
		t.Errorf("the page has %d elements", elements)
	}
	b.do(chromedp.Evaluate(`document.getElementById('toggle').click(); document.getElementById('list').open = true;
		document.getElementById('f-find').value = '-0499'; document.getElementById('f-find').dispatchEvent(new Event('input'))`, nil))
	b.until(`[...document.querySelectorAll('#rows button span')].map((x) => x.textContent).join() === 'unit-0499'`)
	b.do(chromedp.Evaluate(`document.querySelector('#rows button').click()`, nil))
	b.until(`document.getElementById('p-title').textContent === 'unit-0499' && document.getElementById('k-play').disabled`)
	if eval[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
		t.Error("the page is wider than the phone")
	}
}
