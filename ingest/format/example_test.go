package format_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"cairn/event"
	"cairn/ingest/format"
)

// The rows of a table, of which one is wrong.
func ExampleOpen() {
	const table = "Name;Breitengrad;Längengrad\nParis;48,8566;2,3522\nNowhere;148,0;2,0\n"
	kind, err := format.KindOf("text/csv")
	if err != nil {
		fmt.Println(err)
		return
	}
	options, err := format.ParseOptions(kind, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	rows, err := format.Open(bufio.NewReader(strings.NewReader(table)), kind, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	for {
		var p event.Point
		var wrong *event.FieldError
		err := rows.Next(&p)
		switch {
		case err == io.EOF:
			return
		case errors.As(err, &wrong):
			fmt.Println("row", rows.Row(), "is refused:", wrong.Reason)
		case err != nil:
			fmt.Println(err)
			return
		default:
			fmt.Println("row", rows.Row(), p.Position, string(p.Properties))
		}
	}
	// Output:
	// row 1 [2.3522 48.8566] {"Name":"Paris"}
	// row 2 is refused: the latitude is "148,0": the latitude must be from -90 to 90 degrees
}
