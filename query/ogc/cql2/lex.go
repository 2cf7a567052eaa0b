package cql2

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A token is a word of CQL2's text form.
type token struct {
	kind   tokenKind
	text   string // of a word as it stands; of a string or quoted name, what it says
	offset int
}

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenName   // a name in double quotes
	tokenString // in single quotes
	tokenNumber
	tokenSign // ( ) , = <> < <= > >= + - * /
)

// is reports whether the token is this keyword, in any case, or this sign.
func (t token) is(word string) bool {
	return (t.kind == tokenWord || t.kind == tokenSign) && strings.EqualFold(t.text, word)
}

func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end"
	case tokenString:
		return "'" + clip(t.text) + "'"
	case tokenName:
		return `"` + clip(t.text) + `"`
	}
	return clip(t.text)
}

// clip keeps an error to a line.
func clip(s string) string {
	const most = 40 // characters
	for i := range s {
		if utf8.RuneCountInString(s[:i]) == most {
			return s[:i] + "…"
		}
	}
	return s
}

// next reads the token that begins at offset at or after white space.
func next(text string, offset int) (t token, end int, err error) {
	for offset < len(text) && strings.IndexByte(" \t\r\n\f\v", text[offset]) >= 0 {
		offset++
	}
	t = token{offset: offset}
	if offset == len(text) {
		return t, offset, nil
	}
	rest := text[offset:]
	switch c := rest[0]; {
	case c == '\'':
		return quoted(text, t, '\'', tokenString)
	case c == '"':
		return quoted(text, t, '"', tokenName)
	case c >= '0' && c <= '9', c == '.' && len(rest) > 1 && isDigit(rest[1]):
		t.kind, t.text = tokenNumber, rest[:numberLength(rest)]
	default:
		if n := wordLength(rest); n > 0 {
			t.kind, t.text = tokenWord, rest[:n]
			break
		}
		n := 1
		if strings.HasPrefix(rest, "<>") || strings.HasPrefix(rest, "<=") || strings.HasPrefix(rest, ">=") {
			n = 2
		}
		if strings.IndexByte("(),=<>+-*/%^", c) < 0 {
			r, _ := utf8.DecodeRuneInString(rest)
			return t, offset, &Error{Where{Offset: offset}, fmt.Sprintf("%q is not expected here", r)}
		}
		t.kind, t.text = tokenSign, rest[:n]
	}
	return t, offset + len(t.text), nil
}

// quoted reads to the closing quote. A quote inside is written twice or, in a
// string, behind a backslash.
func quoted(text string, t token, quote byte, kind tokenKind) (token, int, error) {
	var b strings.Builder
	for i := t.offset + 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quote == '\'' && i+1 < len(text) && text[i+1] == quote:
			i++
			b.WriteByte(quote)
		case c != quote:
			b.WriteByte(c)
		case i+1 < len(text) && text[i+1] == quote:
			i++
			b.WriteByte(quote)
		default:
			t.kind, t.text = kind, b.String()
			return t, i + 1, nil
		}
	}
	return t, len(text), &Error{Where{Offset: t.offset}, fmt.Sprintf("the quote %c is not closed", quote)}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// numberLength is that of 12, 1.5, .5, 1. or 1e-3 at the start of s.
func numberLength(s string) int {
	n := digits(s)
	if n < len(s) && s[n] == '.' {
		n++
		n += digits(s[n:])
	}
	if n < len(s) && s[n]|0x20 == 'e' {
		exponent := n + 1
		if exponent < len(s) && (s[exponent] == '+' || s[exponent] == '-') {
			exponent++
		}
		if d := digits(s[exponent:]); d > 0 {
			n = exponent + d
		}
	}
	return n
}

// wordLength is that of a name or keyword at the start of s. The standard's
// names may hold a colon, dots and digits behind their first letter.
func wordLength(s string) int {
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			return i
		case unicode.IsLetter(r), r == '_', r == ':':
		case i > 0 && (unicode.IsDigit(r) || unicode.IsMark(r) || r == '.' || r == '·' || r == '‿' || r == '⁀'):
		default:
			return i
		}
	}
	return len(s)
}
