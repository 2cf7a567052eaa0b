package filter

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fold is a text field without regard to case: what it is compared with goes
// through [FoldText] first.
func Fold(f Field) Field {
	f.fold = true
	return f
}

// FoldText puts every letter into its small form, one for one, as Unicode has them:
// the same in Go and in SQL, which Postgres' lower() with its locales is not.
func FoldText(s string) string {
	return strings.Map(unicode.ToLower, s)
}

// foldTable are the letters beyond ASCII that have a small form, and the small
// forms in the same order: what SQL's translate takes. some matches a text that has
// any of them.
var foldTable = func() (t struct{ from, to, some string }) {
	var from, to, some strings.Builder
	last := rune(-1) // of those that follow one another
	for r := rune(utf8.RuneSelf); r <= unicode.MaxRune; r++ {
		small := unicode.ToLower(r)
		if small == r {
			continue
		}
		from.WriteRune(r)
		to.WriteRune(small)
		if r == last+1 && unicode.ToLower(r+1) != r+1 { // within a range
			last = r
			continue
		}
		if r == last+1 {
			some.WriteRune('-')
		}
		some.WriteRune(r)
		last = r
	}
	t.from, t.to, t.some = from.String(), to.String(), "["+some.String()+"]"
	return t
}()

// foldSQL is FoldText of text that SQL has. In "C", lower() knows ASCII alone, and
// that is all that most texts are. For each letter translate looks through all of its
// table, so it gets only what has a letter of it: 18 % of the names of GeoNames are
// beyond ASCII, 1 % have such a letter.
func (b *Builder) foldSQL(text string) string {
	small := `lower(` + text + ` collate "C")`
	return `(case when octet_length(` + text + `) = char_length(` + text + `) or ` + text + ` collate "C" !~ ` + b.Arg(foldTable.some, "text") + ` then ` + small + ` else translate(` + small + `, ` +
		b.Arg(foldTable.from, "text") + `, ` + b.Arg(foldTable.to, "text") + `) end)`
}
