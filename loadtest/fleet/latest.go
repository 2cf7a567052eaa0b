package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// maxAsking bounds the requests of /latest in flight: a target that is so far behind
// does not come back within a run.
const maxAsking = 256

// What /latest is asked, in turns.
const (
	one = iota
	inBox
	page
	queryKinds
)

var queryNames = [queryKinds]string{"/latest of a name", "/latest in a box of 10°", "/latest, 1,000 names"}

// ask asks where devices are at even distances in time, whether those before were
// answered or not: times count from when a question was due.
func (f *fleet) ask(ctx context.Context, begun time.Time) {
	var group sync.WaitGroup
	defer group.Wait()
	slots := make(chan *fasthttp.HostClient, maxAsking)
	for range maxAsking {
		slots <- newClient(&f.Config)
	}
	for n := 0; ; n++ {
		due := begun.Add(time.Duration(float64(n) / f.Asked * float64(time.Second)))
		if !sleep(ctx, due) {
			return
		}
		select {
		case client := <-slots:
			group.Go(func() {
				f.query(client, n%queryKinds, due)
				slots <- client
			})
		default:
			f.failures.add(fmt.Errorf("/latest: %d questions wait for an answer already", maxAsking))
		}
	}
}

func (f *fleet) query(client *fasthttp.HostClient, what int, due time.Time) {
	d := f.devices[rand.IntN(len(f.devices))]
	path := "/latest?limit=1000"
	switch what {
	case one:
		path = "/latest?name=" + url.QueryEscape(d.name)
	case inBox:
		x, y := d.place(0)
		path = fmt.Sprintf("/latest?limit=100&bbox=%g,%g,%g,%g", x-5, y-5, x+5, y+5)
	}
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	f.request(req, path)
	err := client.Do(req, res)
	f.latest[what].record(time.Since(due))
	if err != nil {
		f.failures.add(fmt.Errorf("/latest: %w", err))
	} else if res.StatusCode() != http.StatusOK {
		f.failures.add(fmt.Errorf("/latest: %d %.200s", res.StatusCode(), res.Body()))
	}
}
