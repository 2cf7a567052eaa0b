package device

// Overland reads a batch of the Overland app: {"locations": [GeoJSON Features]},
// whose properties hold the time and the device. What stands beside the locations
// (the current place, the trip) is not part of the batch.
func Overland(body []byte) ([]Fix, error) {
	o, err := readObject(body, "")
	if err != nil {
		return nil, err
	}
	list := o.get("locations")
	if list.Kind() != '[' {
		return nil, refuse("/locations", "it must be an array of GeoJSON Features")
	}
	var fixes []Fix
	err = eachElement(list, "/locations", func(pointer string, raw []byte) error {
		fix, err := overlandFix(raw, pointer)
		if err == nil {
			fixes = append(fixes, fix)
		}
		return err
	})
	return fixes, err
}

func overlandFix(raw []byte, pointer string) (Fix, error) {
	o, err := readObject(raw, pointer)
	if err != nil {
		return Fix{}, err
	}
	if o.get("geometry") == nil {
		return Fix{}, refuse(pointer, "it has no geometry")
	}
	properties := &object{}
	if p := o.get("properties"); p != nil {
		if properties, err = readObject(p, pointer+"/properties"); err != nil {
			return Fix{}, err
		}
	}
	at, err := when(properties.text("timestamp"))
	if err != nil {
		return Fix{}, refuse(pointer+"/properties/timestamp", "%s", err)
	}
	f := &feature{written: map[string]bool{}, b: append([]byte(`{"type":"Feature","geometry":`), o.get("geometry")...)}
	f.b = append(f.b, `,"properties":{`...)
	device := properties.text("device_id")
	if properties.text("name") == "" {
		f.text("name", device)
	}
	for i, n := range properties.names {
		f.property(n, properties.values[i]) // but an empty name, where there is the device's
	}
	// Trips come in the same batch as positions of the same moment.
	program := "overland"
	if kind := properties.text("type"); kind != "" {
		program += " " + kind
	}
	return Fix{Program: program, Device: device, Time: at, Feature: f.end(at)}, nil
}
