package client

import (
	"bytes"
	"encoding/json"
)

// featuresName is the member of a FeatureCollection that holds its Features
// (RFC 7946, section 3.3).
const featuresName = "features"

// maxKeyBytes of a member's name are looked at: the longest spelling of
// "features", all \u escapes, and one more to tell what is longer.
const maxKeyBytes = 6*len(featuresName) + 1

// A featureCounter counts the objects in the array "features" of a GeoJSON
// document; a document without that member is one Feature. It knows strings and
// depth, no more, which is enough for what is well formed.
type featureCounter struct {
	depth    int
	root     byte // { or [
	ended    bool // the document did
	inString bool
	escaped  bool

	wantKey    bool // the next string is the name of one of the root's members
	inKey      bool
	key        []byte
	isFeatures bool // the member being read is called so
	inFeatures bool // between its brackets
	collection bool // there was such an array
	n          int64
}

func (c *featureCounter) rows() int64 {
	if c.ended && c.root == '{' && !c.collection {
		return 1
	}
	return c.n
}

func (c *featureCounter) count(p []byte) {
	for _, b := range p {
		if c.inString {
			c.stringByte(b)
			continue
		}
		switch b {
		case '"':
			c.inString, c.inKey, c.wantKey = true, c.wantKey, false
			c.key = c.key[:0]
		case '{', '[':
			c.open(b)
		case '}', ']':
			c.close()
		case ',':
			if c.depth == 1 && c.root == '{' {
				c.wantKey, c.isFeatures = true, false
			}
		}
	}
}

func (c *featureCounter) stringByte(b byte) {
	switch {
	case c.escaped:
		c.escaped = false
	case b == '\\':
		c.escaped = true
	case b == '"':
		if c.inKey {
			c.isFeatures = isFeatures(c.key)
		}
		c.inString, c.inKey = false, false
		return
	}
	if c.inKey && len(c.key) < maxKeyBytes {
		c.key = append(c.key, b)
	}
}

func (c *featureCounter) open(b byte) {
	switch {
	case c.depth == 0:
		c.root, c.wantKey, c.isFeatures = b, b == '{', false
	case c.depth == 1 && c.isFeatures && b == '[':
		c.inFeatures, c.collection = true, true
	case c.depth == 2 && c.inFeatures && b == '{':
		c.n++
	}
	c.depth++
}

func (c *featureCounter) close() {
	c.depth = max(c.depth-1, 0)
	if c.depth == 1 {
		c.inFeatures = false
	}
	c.ended = c.depth == 0
}

// isFeatures compares a name as it stands between its quotes, escapes and all.
func isFeatures(key []byte) bool {
	if string(key) == featuresName {
		return true
	}
	if bytes.IndexByte(key, '\\') < 0 {
		return false
	}
	var name string
	quoted := append(append([]byte{'"'}, key...), '"')
	return json.Unmarshal(quoted, &name) == nil && name == featuresName
}
