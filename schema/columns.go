package schema

import "strings"

// Columns are those of a segment, in their order. Whoever writes, compares or
// selects whole points takes them from here.
var Columns = []string{"id", "external_id", "external_id_number", "position", "revision", "name", "geom",
	"altitude", "observed_at", "received_at", "properties", "members", "author"}

// Content are the columns that say what a point is: two events with the same say
// the same. The time received is none of them, since it differs in every retry,
// nor is the name, which is copied out of the properties.
var Content = []string{"external_id", "external_id_number", "geom", "altitude", "observed_at", "properties", "members"}

// State are the columns that a change of a point may change, beside its revision.
var State = []string{"external_id", "external_id_number", "name", "geom", "altitude", "observed_at", "received_at",
	"properties", "members", "author"}

// List is columns as SQL has them, with a prefix such as "p." before each.
func List(prefix string, columns []string) string {
	return prefix + strings.Join(columns, ", "+prefix)
}
