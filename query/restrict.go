package query

import (
	"fmt"

	"cairn/event"
	"cairn/query/filter"
)

// Restrictions are the parameters that say which points a request is about. Every
// route that takes them reads them here, so that a parameter means the same on all.
type restrictions struct {
	parameters  []filter.Parameter // those of [filter.ParseParameter], each in its one spelling, sorted
	cql, lang   string             // filter and filter-lang
	cqlExpr     filter.Expr        // nil: no filter
	minPosition event.Position     // 0: none
	comparisons int
}

// read reads a query string whose names are all in known. Those that restrict nothing
// go to own, which is the route's; nil where it has none.
func (r *restrictions) read(raw string, known []string, own func(name, value string) (mine bool, err error)) error {
	err := eachParameter(raw, known, func(name, value string) (err error) {
		switch name {
		case "filter":
			r.cql = value
			return nil
		case "filter-lang":
			r.lang, err = parseLanguage(value)
			return err
		case "min_position":
			r.minPosition, err = parsePosition(value)
			return err
		}
		if own != nil {
			if mine, err := own(name, value); mine {
				return err
			}
		}
		p, _, err := filter.ParseParameter(name, value)
		r.parameters = append(r.parameters, p)
		if err == nil {
			err = r.count(p.Expr)
		}
		return err
	})
	if err != nil {
		return err
	}
	filter.Sort(r.parameters)
	if r.cqlExpr, err = parseFilter(r.cql, r.lang); err != nil {
		return err
	}
	if err := r.count(r.cqlExpr); err != nil {
		return badParameter("filter", "filter: %v", err)
	}
	return nil
}

var errComparisons = fmt.Errorf("with it the request has more than %d comparisons; ask for less at once: filter=NAME IN (…) is one, properties.NAME=1 two, as a number and as text", filter.MaxComparisons)

// count adds an expression's comparisons to those of the request, whatever it was written
// in.
func (r *restrictions) count(e filter.Expr) error {
	if r.comparisons += filter.Comparisons(e); r.comparisons > filter.MaxComparisons {
		return errComparisons
	}
	return nil
}

// expr lets through what all of them let through.
func (r *restrictions) expr() filter.Expr {
	return filter.All(filter.Combine(r.parameters), r.cqlExpr)
}
