package query

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/web"
	"cairn/query/filter"
)

// A view is what the caller may see. It is a part of the request, so of its filter
// and of its key in the cache: no answer, count or stream is one for two views. The
// zero view is everything but who wrote it.
type view struct {
	area    *auth.Area // nil: everywhere
	authors bool       // each point says who wrote it last
}

func viewOf(c *fiber.Ctx) view {
	who := web.Caller(c)
	if who == nil {
		return view{}
	}
	return view{area: who.Area, authors: who.Scopes.Has(auth.Admin)}
}

// within is the expression of what passes it and may be seen.
func (v view) within(e filter.Expr) filter.Expr {
	if v.area == nil {
		return e
	}
	return filter.All(v.box(), e)
}

func (v view) box() filter.Box {
	return filter.Box{West: v.area[0], South: v.area[1], East: v.area[2], North: v.area[3]}
}

// sees reports whether a place is in it.
func (v view) sees(x, y float64) bool { return v.area == nil || v.box().Has(x, y) }

// appendKey appends what tells its answers from those of other views. It begins with
// a line's end, which no request's line has in it.
func (v view) appendKey(dst []byte) []byte {
	if v.authors {
		dst = append(dst, "\nauthors"...)
	}
	if v.area != nil {
		dst = append(dst, "\nwithin "...)
		for _, degrees := range v.area {
			dst = append(event.AppendFloat(dst, degrees), ',')
		}
	}
	return dst
}

func (v view) key() string { return string(v.appendKey(nil)) }

// checkAuthors refuses a filter that tells who wrote what to those who may not know.
func checkAuthors(c *fiber.Ctx, e filter.Expr) error {
	if filter.Names(e, filter.Author) {
		return web.Permit(c, auth.Admin)
	}
	return nil
}

const memberAuthor = `"author": `

// appendAuthor adds who wrote it to the Feature that begins there, unless the user's
// has a member of that name: those are as jsonb writes them, with a space.
func appendAuthor(dst []byte, begin int, author string) []byte {
	if author == "" || hasMember(dst[begin:], memberAuthor) {
		return dst
	}
	dst = append(dst[:len(dst)-1], `,"author":`...)
	dst, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(author, "\uFFFD")) // fails for nothing else
	return append(dst, '}')
}
