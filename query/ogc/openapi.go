package ogc

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// operations says of each route what it takes and answers, in few words; the rest of
// the definition is made from it and from the routes that there are.
//
//go:embed openapi.json
var operationsJSON []byte

// An Operation is a route: a method and a path with {parameters}.
type Operation struct{ Method, Path string }

func (o Operation) String() string { return o.Method + " " + o.Path }

// definition is openapi.json.
type definition struct {
	Info       map[string]any            `json:"info"`
	Tags       []map[string]any          `json:"tags"`
	Operations map[string]map[string]any `json:"operations"`
	Components map[string]any            `json:"components"`
}

func readDefinition() (*definition, error) {
	d := &definition{}
	if err := json.Unmarshal(operationsJSON, d); err != nil {
		return nil, fmt.Errorf("openapi.json: %w", err)
	}
	return d, nil
}

// Described are the operations that the definition knows, sorted.
func Described() ([]string, error) {
	d, err := readDefinition()
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(d.Operations)), nil
}

// Undescribed is what the definition says of a route that openapi.json does not know.
const Undescribed = "not described"

var isStatus = regexp.MustCompile(`^[1-5][0-9][0-9]$`)

// OpenAPI is the definition (OpenAPI 3.0) of the operations that are served here. It
// refers to nothing outside of itself. The properties that were seen are parameters of
// the items, as the other queryables are: GDAL filters by what it finds there.
func (s Site) OpenAPI(version string, served []Operation, seen []Seen) (map[string]any, error) {
	d, err := readDefinition()
	if err != nil {
		return nil, err
	}
	paths := map[string]map[string]any{}
	for _, o := range served {
		short, ok := d.Operations[o.String()]
		if !ok { // a test says that there is none
			short = map[string]any{"summary": Undescribed, "200": "Document"}
		}
		if paths[o.Path] == nil {
			paths[o.Path] = map[string]any{}
		}
		operation := expand(short)
		paths[o.Path][strings.ToLower(o.Method)] = operation
		if o.Method == "GET" && o.Path == Points.Items() {
			operation["parameters"] = append(operation["parameters"].([]map[string]any), queryables(Points, d.parameterNames(), seen)...)
		}
	}
	d.Info["version"] = version
	return map[string]any{"openapi": "3.0.3", "info": d.Info, "tags": d.Tags, "servers": []map[string]any{{"url": s.Base}},
		"paths": paths, "components": d.Components}, nil
}

// parameterNames are those that the definition has.
func (d *definition) parameterNames() map[string]bool {
	names := map[string]bool{}
	parameters, _ := d.Components["parameters"].(map[string]any)
	for _, p := range parameters {
		if name, ok := p.(map[string]any)["name"].(string); ok {
			names[name] = true
		}
	}
	return names
}

// queryables are those of a collection as parameters, but for the names that are
// parameters of another meaning.
func queryables(c *Collection, taken map[string]bool, seen []Seen) (out []map[string]any) {
	add := func(name, what string, schema map[string]any) {
		if !taken[name] {
			taken[name] = true
			out = append(out, map[string]any{"name": name, "in": "query", "description": what, "schema": schema})
		}
	}
	for _, f := range c.Fields {
		if f.Queryable {
			schema := f.Schema
			if schema["type"] == "integer" { // another number is that of no point
				schema = map[string]any{"type": "number"}
			}
			add(f.Name, f.Description+" It is this.", schema)
		}
	}
	for _, p := range seen {
		if p.Type == "string" || p.Type == "integer" || p.Type == "number" || p.Type == "boolean" {
			// Of whatever type: points may have others, and what none has lets none through.
			add(p.Name, "The property of that name is this; the points looked at have it as "+p.Type+".", map[string]any{"type": "string"})
		}
	}
	return out
}

// expand makes references of the names.
func expand(short map[string]any) map[string]any {
	reference := func(kind string, name any) map[string]any {
		return map[string]any{"$ref": fmt.Sprintf("#/components/%s/%v", kind, name)}
	}
	out, responses := map[string]any{}, map[string]any{}
	for name, value := range short {
		switch {
		case isStatus.MatchString(name):
			responses[name] = reference("responses", value)
		case name == "errors":
			for _, status := range value.([]any) {
				responses[status.(string)] = reference("responses", status)
			}
		case name == "parameters":
			list := []map[string]any{}
			for _, parameter := range value.([]any) {
				list = append(list, reference("parameters", parameter))
			}
			out[name] = list
		case name == "body":
			out["requestBody"] = reference("requestBodies", value)
		default:
			out[name] = value
		}
	}
	// Whatever takes parameters refuses wrong ones.
	if _, some := out["parameters"]; some && responses["400"] == nil {
		responses["400"] = reference("responses", "400")
	}
	out["responses"] = responses
	return out
}
