package page

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"cairn/internal/testrig"
)

// A browser's EventSource is live again on its own after the server was restarted: it
// gives up for good at any answer that is no stream.
func TestEventSourceOutlivesRestarts(t *testing.T) {
	command := testrig.Command{Program: cairnProgram, Args: []string{"serve", "--data", testrig.DataFolder(t), "--nats-listen", testrig.AnyPort,
		"--listen", testrig.FreePort(t, "127.0.0.1")}}
	s := command.Serve(t)
	b := launch(t, 800, 600, false)
	b.do(chromedp.Navigate(s.Base+"/conformance?f=json"), chromedp.Evaluate(`window.came = [];
		window.events = new EventSource('/stream');
		events.onmessage = e => came.push(JSON.parse(e.data).id); 0`, nil))
	b.until(`events.readyState === EventSource.OPEN`)
	for _, id := range []string{"first", "second", "third"} {
		post(t, s, `{"id":"`+id+`","longitude":2,"latitude":48}`)
		b.until(`came.includes('` + id + `')`)
		s.MustStop()
		s = command.Serve(t)
	}
	b.until(`events.readyState === EventSource.OPEN`)
	if got := eval[string](b, `came.join(' ')`); got != "first second third" {
		t.Errorf("the EventSource had %s", got)
	}
}

// MapLibre makes numbers of ids, 0 where they are text, so the id is a property as
// well. A number above 64 bits costs it all points of a tile that it makes itself from
// GeoJSON, not of the tiles that Cairn makes.
func TestMapLibreReadsPoints(t *testing.T) {
	s := start(t)
	for _, p := range []string{
		`{"id":"text","longitude":2,"latitude":48,"time":"2026-01-02T03:04:05Z"}`,
		`{"id":7,"longitude":2.1,"latitude":48.1}`,
		`{"id":9007199254740991,"longitude":2.2,"latitude":48.2}`,
		`{"id":"big","longitude":2.3,"latitude":48.3,"properties":{"n":9007199254740993}}`,
		`{"id":"huge","longitude":2.9,"latitude":48.4,"properties":{"n":100000000000000000000000}}`,
	} {
		post(t, s, p)
	}
	b := browse(t, s.Base+"/#map=8/48.15/2.15", 1000, 700, false)
	b.until(drawn + ` >= 5`)
	b.do(chromedp.Evaluate(`cairnMap.addSource('try', {type: 'geojson', data: '/points?bbox=1.9,47.9,2.4,48.4'});
		cairnMap.addLayer({id: 'try', type: 'circle', source: 'try'}); 0`, nil))
	b.until(`cairnMap.isSourceLoaded('try') && cairnMap.queryRenderedFeatures({layers: ['try']}).length >= 4`)
	got := eval[string](b, `[...new Set(cairnMap.queryRenderedFeatures({layers: ['try']}).map(f => [f.properties.id, f.properties.time || '-', f.properties.received ? 'received' : ''].join(' ')))].sort().join('; ')`)
	if want := "7 - received; 9007199254740991 - received; big - received; text 2026-01-02T03:04:05Z received"; strings.TrimSpace(got) != want {
		t.Errorf("MapLibre has %s, want %s", got, want)
	}
}
