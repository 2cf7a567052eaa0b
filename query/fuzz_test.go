package query

import (
	"errors"
	"net/http"
	"testing"

	"cairn/internal/web"
	"cairn/query/plan"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// What is taken for a cursor is one that was given out.
func FuzzCursor(f *testing.F) {
	for _, sort := range []plan.Sort{plan.ByPosition, plan.ByTime, plan.ByDistance} {
		f.Add(string(appendCursor(nil, sort, &plan.Key{Position: 4097})))
	}
	given := string(appendCursor(nil, plan.ByName, &plan.Key{Name: "bus 7"}))
	f.Add(given)
	f.Add(given[:4] + "\n" + given[4:])
	f.Add("\r" + given)
	f.Fuzz(func(t *testing.T, s string) {
		sort, k, err := parseCursor(s)
		if err != nil {
			return
		}
		if string(appendCursor(nil, sort, k)) != s || (k.Position < 1) != (sort == plan.ByName) {
			t.Fatalf("%q is taken for %v", s, k)
		}
	})
}

func FuzzStreamQuery(f *testing.F) {
	f.Add("since=0&bbox=1,2,3,4", "")
	f.Add("name=a%20b&datetime=../2026-11-21T00:00:00Z", "4097")
	f.Add("since=-1", "9223372036854775808")
	app := fiber.New()
	f.Fuzz(func(t *testing.T, raw, last string) {
		c := app.AcquireCtx(&fasthttp.RequestCtx{})
		defer app.ReleaseCtx(c)
		c.Request().URI().SetQueryString(raw)
		c.Request().Header.Set(headerLastEventID, last)
		r, err := (&service{}).parseStream(c, false)
		if err != nil {
			var p *web.Problem
			if !errors.As(err, &p) || p.Status != http.StatusBadRequest || p.Detail == "" {
				t.Fatalf("%q, %q: %v is no problem that a client can use", raw, last, err)
			}
			return
		}
		if r.at < fromNow {
			t.Fatalf("%q, %q: from %d", raw, last, r.at)
		}
	})
}
