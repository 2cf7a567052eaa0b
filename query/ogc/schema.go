package ogc

import "cairn/event"

// A Seen property is one that points were found to have, with the type and format of
// its values in JSON Schema's words; "" where they differ.
type Seen struct{ Name, Type, Format string }

func (p *Seen) describe(d map[string]any) map[string]any {
	if p.Type != "" {
		d["type"] = p.Type
	}
	if p.Format != "" {
		d["format"] = p.Format
	}
	return d
}

// schema begins a JSON Schema.
func (s Site) schema(c *Collection, path, title string) map[string]any {
	return map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     s.Base + c.Path() + path, "type": "object", "title": title, "additionalProperties": true,
	}
}

func geometry() map[string]any {
	return map[string]any{"x-ogc-role": "primary-geometry", "format": "geometry-point", "title": "Where it is"}
}

// added are the fields that Cairn adds to an item's properties, with their roles.
var added = map[string]string{"id": "id", "time": "primary-instant", "received": "", "position": "", "revision": ""}

// Schema is the document at /collections/{id}/schema: what an item has, and what
// can be written.
func (s Site) Schema(c *Collection, seen []Seen) map[string]any {
	properties := map[string]any{"geometry": geometry()}
	users := map[string]bool{}
	for _, p := range seen {
		users[p.Name] = true
	}
	for i, f := range c.Fields {
		if f.Name == "altitude" {
			continue // in the geometry
		}
		d := f.describe(i)
		role, ours := added[f.Name]
		if role != "" {
			d["x-ogc-role"] = role
		}
		// Some points have a property of their own by that name, which stays.
		if name := f.Name; ours && users[name] {
			d["readOnly"] = true
			properties[event.ClashPrefix+name] = d
		} else {
			properties[name] = d
		}
	}
	addSeen(properties, seen, len(c.Fields), "")
	schema := s.schema(c, "/schema", c.Title)
	schema["properties"] = properties
	return schema
}

// FeatureSchema is what /collections/{id}/schema?f=geojson says: the JSON Schema of an
// item as GeoJSON, by which GDAL makes a layer's fields.
func (s Site) FeatureSchema(c *Collection, seen []Seen) map[string]any {
	logical := s.Schema(c, seen)["properties"].(map[string]any)
	properties := map[string]any{}
	for name, value := range logical {
		if name == "geometry" {
			continue
		}
		d := map[string]any{}
		for key, v := range value.(map[string]any) {
			if key == "title" || key == "description" || key == "type" || key == "format" {
				d[key] = v
			}
		}
		// A number for GDAL is 32 bits where the schema says integer: positions and
		// milliseconds since 1970 have more.
		if d["type"] == "integer" {
			d["type"] = "number"
		}
		properties[name] = d
	}
	// Where some points have ids and times of their own, both kinds stand in one column.
	for _, name := range [...]string{"id", "time"} {
		if _, clash := logical[event.ClashPrefix+name]; clash {
			properties[name] = map[string]any{"title": name, "type": "string"}
		}
	}
	schema := s.schema(c, "/schema?f=geojson", c.Title+" as GeoJSON")
	schema["required"] = []string{"type", "geometry", "properties"}
	schema["properties"] = map[string]any{
		"type": map[string]any{"type": "string", "enum": []string{"Feature"}},
		"geometry": map[string]any{"type": "object", "required": []string{"type", "coordinates"}, "properties": map[string]any{
			"type":        map[string]any{"type": "string", "enum": []string{"Point"}},
			"coordinates": map[string]any{"type": "array", "minItems": 2, "maxItems": 3, "items": map[string]any{"type": "number"}},
		}},
		"properties": map[string]any{"type": "object", "properties": properties},
	}
	return schema
}

func (f *Field) describe(i int) map[string]any {
	d := map[string]any{"title": f.Title, "description": f.Description, "x-ogc-propertySeq": i + 1}
	if f.ReadOnly {
		d["readOnly"] = true
	}
	for name, value := range f.Schema {
		d[name] = value
	}
	return d
}

// addSeen adds the users' properties; where Cairn's have the name, with the prefix, or
// not at all where that is "".
func addSeen(properties map[string]any, seen []Seen, from int, prefix string) {
	for i, p := range seen {
		name := p.Name
		if _, ours := properties[name]; ours {
			if name = prefix + name; prefix == "" || p.Name == "name" {
				continue
			}
		}
		properties[name] = p.describe(map[string]any{"title": p.Name, "x-ogc-propertySeq": from + i + 1})
	}
}

// Queryables is the document at /collections/{id}/queryables. Any other property
// can be filtered by too. Cairn's names are Cairn's in filters; a property of the
// user's by such a name has a prefix there.
func (s Site) Queryables(c *Collection, seen []Seen) map[string]any {
	properties := map[string]any{"geometry": geometry()}
	for i, f := range c.Fields {
		if f.Queryable {
			d := f.describe(i)
			delete(d, "readOnly")
			properties[f.Name] = d
		}
	}
	addSeen(properties, seen, len(c.Fields), "properties.")
	schema := s.schema(c, "/queryables", "What can be filtered by")
	schema["properties"] = properties
	return schema
}

// Sortables is the document at /collections/{id}/sortables.
func (s Site) Sortables(c *Collection) map[string]any {
	properties := map[string]any{}
	for i, f := range c.Fields {
		if f.Sortable {
			properties[f.Name] = f.describe(i)
		}
	}
	schema := s.schema(c, "/sortables", "What can be sorted by")
	schema["properties"] = properties
	schema["additionalProperties"] = false
	return schema
}
