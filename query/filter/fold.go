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
// forms in the same order: what SQL's translate takes.
var foldTable = func() (t struct{ from, to string }) {
	var from, to strings.Builder
	for r := rune(utf8.RuneSelf); r <= unicode.MaxRune; r++ {
		if small := unicode.ToLower(r); small != r {
			from.WriteRune(r)
			to.WriteRune(small)
		}
	}
	t.from, t.to = from.String(), to.String()
	return t
}()

// foldSQL is FoldText of text that SQL has. In "C", lower() knows ASCII alone, and
// that is all that most texts are.
func (b *Builder) foldSQL(text string) string {
	small := `lower(` + text + ` collate "C")`
	return `(case when octet_length(` + text + `) = char_length(` + text + `) then ` + small + ` else translate(` + small + `, ` +
		b.Arg(foldTable.from, "text") + `, ` + b.Arg(foldTable.to, "text") + `) end)`
}
