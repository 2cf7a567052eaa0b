package format

// Original is the row that Next was about last, as it was written: the cells of a
// table with its header and delimiter, or the text of a JSON row; nothing where
// neither can be told. It is good until the next call of Next.
func Original(r Rows) (text []byte, header, record []string, delimiter rune) {
	switch r := r.(type) {
	case *table:
		return nil, r.layout.header, r.record, r.csv.Comma
	case *lines:
		return r.text, nil, nil, 0
	case *sequence:
		return r.text, nil, nil, 0
	case *collection:
		return r.text, nil, nil, 0
	}
	return nil, nil, nil, 0
}

// Tabs says that the cells of a table are divided by tabs, unless it was said
// otherwise.
func Tabs(o Options) Options {
	if o.delimiter == 0 {
		o.delimiter = '\t'
	}
	return o
}
