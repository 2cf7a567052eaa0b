package page

import (
	"testing"

	"github.com/chromedp/chromedp"

	"cairn/internal/testrig"
)

// A browser's EventSource is live again by itself after the server was restarted: it
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
