package testrig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"cairn/event"
)

// UnmarshalJSON reads a Feature, keeps every digit, and takes out of the properties
// what Cairn repeats there, so that what is left is what was sent.
func (f *Feature) UnmarshalJSON(raw []byte) error {
	type plain Feature // without this method
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode((*plain)(f)); err != nil {
		return err
	}
	if f.Received.IsZero() {
		return nil // not from Cairn
	}
	own := map[string]any{"id": f.ID, "position": f.Position, "revision": f.Revision, "received": f.Received.Format(time.RFC3339Nano)}
	if f.Time != nil {
		own["time"] = f.Time.Format(time.RFC3339Nano)
	}
	for name, value := range own {
		for _, name := range [...]string{name, event.ClashPrefix + name} {
			if got, ok := f.Properties[name]; ok && fmt.Sprint(got) == fmt.Sprint(value) {
				delete(f.Properties, name)
			}
		}
	}
	return nil
}
